"""How fast priors draw codes, beside what they are compared with: ``python -m tests.benchmarks.sampling``.

The table has a row per contender, grid and batch:

- ``transformer``: :func:`~stage2_prior.sampling.sampler.sample` with the key-value cache;
- ``what a user gets``: :func:`~stage2_prior.sampling.sampler.sample_images`, in micro-batches on one thread each;
- ``bare products``: the matrix products of the steps alone, of the same weights in the same layout, on one thread;
- ``recompute``: the whole prefix goes through the transformer for every code;
- ``Llama``: Hugging Face transformers' ``generate`` with its key-value cache, a model of the same layers and widths,
  where no heads share keys and values, as is that library's default; ``shared keys``: where they share them as the
  transformer's do;
- ``pixelcnn``: with its cache, beside its ``bare products``; ``full forwards``: all of the grid goes through the prior
  for every code; ``rows so far``: the rows up to the current one only;
- ``hierarchy``: the same for two grids of codes, as of VQ-VAE-2, with a stack of 15 layers for each.

Contenders of one grid and batch take turns, and the shortest time of each counts: what else a machine does comes and
goes. Loops without a cache would run for many minutes: a few of their steps are timed and stand for all; their rows end
in ``*``. All else is timed whole. Llama needs Hugging Face transformers (``pip install -e '.[benchmarks]'``) and is
left out without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.prior import Prior
from stage2_prior.sampling.sampler import draw, image_noise, sample, sample_images
from stage2_prior.transformer.model import Transformer
from tests.benchmarks import llama
from tests.benchmarks.timing import bytes_per_second, once, one_thread

CODES = 512
HEADINGS = f"{'prior':>12}{'contender':>20}{'grid':>14}{'batch':>7}{'seconds':>11}{'images/s':>11}{'cached is':>12}"


class Contender(NamedTuple):
    """What draws a batch, and how long that takes."""

    name: str
    seconds: Callable[[], float]  # of one run
    turns: int  # after one that does not count


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        side: Of the square grid, the finest.
        batch: Images drawn together.
        turns: Runs of which the shortest counts.
        device: Where.
        dtype: Of the weights.
        levels: Number of grids, each of half the next one's side.
    """

    side: int
    batch: int
    turns: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    levels: int = 1

    @property
    def sides(self) -> list[int]:
        """Of the grids, coarse to fine."""
        return [self.side // 2**finer for finer in reversed(range(self.levels))]

    @property
    def layout(self) -> CodeLayout:
        """Of the codes."""
        return CodeLayout(tuple((side, side) for side in self.sides), (CODES,) * self.levels)

    @property
    def labels(self) -> Tensor:
        """Classes in turn."""
        return torch.arange(self.batch, device=self.device) % 10

    @property
    def noise(self) -> Tensor:
        """For every code of every image."""
        return image_noise(0, range(self.batch), self.layout.length).to(self.device)

    def transformer(self, **settings: int) -> Transformer:
        """One of ten classes, where and as it is timed."""
        return Transformer(self.layout, 10, **settings).to(self.device, self.dtype).eval()

    def pixelcnn(self, attention_every: int | None) -> PixelCNN:
        """One of ten classes, 15 layers and 64 channels, where and as it is timed."""
        prior = PixelCNN(self.layout, 10, width=64, layers=15, attention_every=attention_every)
        return prior.to(self.device, self.dtype).eval()

    def whole(self, name: str, run: Callable[[], object]) -> Contender:
        """A contender that is timed whole."""
        return Contender(name, lambda: once(run), self.turns)

    def cached(self, name: str, prior: Prior) -> list[Contender]:
        """:func:`sample`, and what users call."""
        labels, noise = self.labels, self.noise
        return [
            self.whole(name, lambda: sample(prior, labels, noise)),
            self.whole("what a user gets", lambda: sample_images(prior, labels, 0)),
        ]

    def loop(self, name: str, prior: Prior, rows_so_far: bool) -> Contender:
        """A loop of forwards; see :meth:`steps`."""
        return Contender(name, lambda: self.steps(prior, rows_so_far), 1)

    @torch.no_grad()
    def steps(self, prior: Prior, rows_so_far: bool) -> float:
        """Seconds of a loop of forwards, from those at the ends of the grid's four quarters.

        Args:
            prior: Any.
            rows_so_far: Whether a step goes through the codes up to its own only.
        """
        codes, noise = torch.randint(CODES, (self.batch, self.layout.length), device=self.device), self.noise

        def step(position: int) -> Tensor:
            seen = codes[:, : position + 1] if rows_so_far else codes
            return draw(prior(seen, self.labels)[:, position], noise[:, position])

        length = self.layout.length
        if not rows_so_far:
            return length * once(lambda: step(0))
        ends = [length * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        share = [once(lambda end=end: step(end)) for end in ends]
        # The mean of four quarters' ends is half a quarter too far along.
        return length * sum(share) / len(share) * 4 / 5


@torch.inference_mode()
@one_thread()
def bare_products(case: Case, prior: Transformer) -> None:
    """Every matrix product of a batch's steps, and nothing else."""
    weights = prior.folded()
    x = weights.codes.new_ones(case.batch, prior.code.embedding_dim)
    inner = weights.codes.new_ones(case.batch, prior.stack[0].feed_forward.out.in_features)
    for _ in range(case.layout.length):
        for block in weights.blocks:
            block.qkv(x), block.attention_out.add_to(x, x), block.gate_and_value(x)
            block.feed_forward_out.add_to(x, inner)
        weights.outputs[-1](x)


@one_thread()
def bare_products_of_pixelcnn(case: Case, prior: PixelCNN) -> None:
    """Every matrix product of the rows and positions of a PixelCNN of one grid, and nothing else."""
    (stack,) = prior.grid_stacks
    weights = stack.folded()
    height, width, channels = weights.positions.shape
    reach = weights.kernel // 2 + 1
    row, here = (weights.codes.new_ones(rows, reach * channels) for rows in (width * case.batch, case.batch))
    for _ in range(height):
        for layer in weights.layers:
            for weight in layer.vertical:
                seen = row @ weight
            seen @ layer.vertical_to_horizontal
            here[:, :channels] @ layer.condition.T
        for _ in range(width):
            for layer in weights.layers:
                here @ layer.horizontal
                here[:, :channels] @ layer.residual
            for weight, _ in weights.head:
                here[:, :channels] @ weight.T


def transformers(case: Case, prior: Transformer) -> Iterator[Contender]:
    """The transformer with a cache, what its products alone take, and Llamas."""
    yield from case.cached("transformer", prior)
    yield case.whole("bare products", lambda: bare_products(case, prior))
    width, layers, heads = prior.code.embedding_dim, len(prior.stack), prior.stack[0].attention.heads
    for name, of_llama in {"Llama": heads, "Llama, shared keys": 1}.items() if llama.available() else ():
        model = llama.of_size(CODES, case.layout.length, width, layers, heads, of_llama).to(case.device, case.dtype)
        yield case.whole(name, llama.generator(model, case.batch, case.layout.length))


def transformers_and_loop(case: Case, kv_heads: int) -> Iterator[Contender]:
    """The same of 8 layers of width 256, and full recompute."""
    prior = case.transformer(width=256, layers=8, heads=4, kv_heads=kv_heads)
    yield from transformers(case, prior)
    yield case.loop("recompute *", prior, rows_so_far=True)


def pixelcnns(case: Case, attention_every: int | None) -> Iterator[Contender]:
    """The PixelCNN with a cache and without, and what its products alone take."""
    prior = case.pixelcnn(attention_every)
    yield from case.cached("pixelcnn", prior)
    if attention_every is None:
        yield case.whole("bare products", lambda: bare_products_of_pixelcnn(case, prior))
    yield case.loop("full forwards *", prior, rows_so_far=False)
    yield case.loop("rows so far *", prior, rows_so_far=True)


def show(prior: str, case: Case, contenders: Sequence[Contender]) -> None:
    """Print a row per contender; the first one is what the others are compared with."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(case.turns + 1):
        for contender in contenders:
            if turn <= contender.turns:
                times[contender.name].append(contender.seconds())
    shortest = {name: min(of_turn[1:]) for name, of_turn in times.items()}
    first = shortest[contenders[0].name]
    grid = "+".join(f"{side}x{side}" for side in case.sides)
    for name, took in shortest.items():
        speed, ratio = f"{case.batch / took:.2f}", f"{took / first:.1f}x"
        print(f"{prior:>12}{name:>20}{grid:>14}{case.batch:>7}{took:>10.3f}s{speed:>11}{ratio:>12}", flush=True)


def memory_bound(case: Case, prior: Transformer) -> float:
    """Seconds a batch if every step did no more than read the blocks' weights and the keys and values once."""
    heads, kv_heads = prior.stack[0].attention.heads, prior.stack[0].attention.kv_heads
    weights = sum(parameter.numel() for parameter in prior.blocks.parameters())
    kept = 2 * len(prior.stack) * prior.code.embedding_dim // heads * kv_heads * case.batch  # numbers a slot
    length = case.layout.length
    read = length * weights + kept * length * (length + 1) / 2
    return read * case.dtype.itemsize / bytes_per_second(case.device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    priors = ["transformer", "pixelcnn", "hierarchy"]
    parser.add_argument("--priors", nargs="+", choices=priors, default=priors)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--turns", type=int, default=3, help="of each contender, after one that does not count")
    parser.add_argument("--kv-heads", type=int, default=1, help="of the transformer's 4 heads; 4 share nothing")
    parser.add_argument("--attention-every", type=int, help="of the PixelCNN; without by default")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, {torch.get_num_threads()} threads, {CODES} codes; *: from a few representative steps")
    print("transformer: 8 layers of width 256; PixelCNN: 15 layers of 64 channels\n" + HEADINGS)
    contenders: dict[str, Callable[[Case], Iterator[Contender]]] = {
        "transformer": lambda case: transformers_and_loop(case, chosen.kv_heads),
        "pixelcnn": lambda case: pixelcnns(case, chosen.attention_every),
        "hierarchy": lambda case: pixelcnns(case, chosen.attention_every),
    }
    for name in chosen.priors:
        for side in chosen.sides:
            for batch in chosen.batches:
                case = Case(side, batch, chosen.turns, device, levels=1 + (name == "hierarchy"))
                show(name, case, list(contenders[name](case)))
    if device.type == "cuda":
        print("transformer: 12 layers of width 768, bfloat16")
        for batch in (128, 1024):
            case = Case(16, batch, chosen.turns, device, torch.bfloat16)
            prior = case.transformer(width=768, layers=12, heads=12)
            show("transformer", case, list(transformers(case, prior)))
            bound = memory_bound(case, prior)
            print(f"memory bandwidth allows {batch / bound:.0f} images/s: {bound:.3f} s a batch")


if __name__ == "__main__":
    main()
