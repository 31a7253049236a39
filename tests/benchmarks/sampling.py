"""How fast priors draw codes, beside what they are compared with: ``python -m tests.benchmarks.sampling``.

The table has a row per contender, grid and batch:

- ``transformer``: :func:`~stage2_prior.sampling.sample` with the key-value cache;
- ``what a user gets``: :func:`~stage2_prior.sampling.sample_images`, in passes of a fixed size on one thread;
- ``recompute``: the whole prefix goes through the transformer for every code;
- ``Llama``: Hugging Face transformers' ``generate`` with its key-value cache, a model of the same layers and widths,
  where no heads share keys and values, as is that library's default; ``shared keys``: where they share them as the
  transformer's do;
- ``pixelcnn``: with its cache; ``full forwards``: all of the grid goes through the prior for every code;
  ``rows so far``: the rows up to the current one only;
- ``hierarchy``: the same for two grids of codes, as of VQ-VAE-2, with a stack of 15 layers for each.

Loops without a cache would run for many minutes: a few of their steps are timed and stand for all; their rows end
in ``*``. All else is timed whole. Llama needs Hugging Face transformers (``pip install -e '.[benchmarks]'``) and is
left out without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn import PixelCNN
from stage2_prior.prior import Prior
from stage2_prior.sampling import draw, image_noise, sample, sample_images
from stage2_prior.transformer import Transformer
from tests.benchmarks import llama
from tests.benchmarks.timing import bytes_per_second, seconds

CODES = 512
HEADINGS = f"{'prior':>12}{'contender':>20}{'grid':>14}{'batch':>7}{'seconds':>11}{'images/s':>11}{'cached is':>12}"


class Time(NamedTuple):
    """Seconds that a contender takes for a batch."""

    contender: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        side: Of the square grid, the finest.
        batch: Images drawn together.
        repeats: Runs of which the shortest counts.
        device: Where.
        dtype: Of the weights.
        levels: Number of grids, each of half the next one's side.
    """

    side: int
    batch: int
    repeats: int
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

    def place(self, prior: Prior) -> Prior:
        """The prior where and as it is timed."""
        return prior.to(self.device, self.dtype).eval()

    def cached(self, prior: Prior) -> float:
        """Seconds of :func:`sample`."""
        labels, noise = self.labels, self.noise
        return seconds(lambda: sample(prior, labels, noise), self.repeats)

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
            return length * seconds(lambda: step(0), 1)
        ends = [length * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        share = [seconds(lambda end=end: step(end), 1) for end in ends]
        # The mean of four quarters' ends is half a quarter too far along.
        return length * sum(share) / len(share) * 4 / 5


@torch.no_grad()
def transformer_times(case: Case, width: int, layers: int, heads: int, whole: bool) -> Iterator[Time]:
    """Contenders of the transformer; those without a cache only if ``whole``."""
    prior = case.place(Transformer(case.layout, 10, width=width, layers=layers, heads=heads))
    yield Time("transformer", case.cached(prior))
    yield Time("what a user gets", seconds(lambda: sample_images(prior, case.labels, 0), case.repeats))
    for name, kv_heads in {"Llama": heads, "Llama, shared keys": 1}.items() if llama.available() else ():
        model = llama.of_size(CODES, case.layout.length, width, layers, heads, kv_heads).to(case.device, case.dtype)
        generate = llama.generator(model, case.batch, case.layout.length)
        yield Time(name, seconds(generate, 1 if case.side > 16 else case.repeats))
    if whole:
        yield Time("recompute *", case.steps(prior, rows_so_far=True))


@torch.no_grad()
def pixelcnn_times(case: Case, attention_every: int | None) -> Iterator[Time]:
    """Contenders of the PixelCNN."""
    prior = case.place(PixelCNN(case.layout, 10, channels=64, layers=15, attention_every=attention_every))
    yield Time("pixelcnn", case.cached(prior))
    yield Time("what a user gets", seconds(lambda: sample_images(prior, case.labels, 0), case.repeats))
    yield Time("full forwards *", case.steps(prior, rows_so_far=False))
    yield Time("rows so far *", case.steps(prior, rows_so_far=True))


def show(prior: str, case: Case, times: Iterator[Time]) -> None:
    """Print a row per contender as it is timed; the first one is what the others are compared with."""
    first = None
    for contender, took in times:
        first = first or took
        speed, ratio = f"{case.batch / took:.2f}", f"{took / first:.1f}x"
        grid = "+".join(f"{side}x{side}" for side in case.sides)
        print(f"{prior:>12}{contender:>20}{grid:>14}{case.batch:>7}{took:>10.3f}s{speed:>11}{ratio:>12}", flush=True)


def memory_bound(case: Case, width: int, layers: int, heads: int) -> float:
    """Seconds a batch if every step did no more than read the weights and the keys and values once."""
    prior_bytes = 12 * layers * width**2 * case.dtype.itemsize
    kept = 2 * layers * width // heads * case.batch * case.dtype.itemsize  # bytes a slot: one head's keys and values
    length = case.layout.length
    read = length * prior_bytes + kept * length * (length + 1) / 2
    return read / bytes_per_second(case.device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    priors = ["transformer", "pixelcnn", "hierarchy"]
    parser.add_argument("--priors", nargs="+", choices=priors, default=priors)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--attention-every", type=int, help="of the PixelCNN; without by default")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, {torch.get_num_threads()} threads, {CODES} codes; *: from a few representative steps")
    print("transformer: 8 layers of width 256; PixelCNN: 15 layers of 64 channels\n" + HEADINGS)
    contenders: dict[str, Callable[[Case], Iterator[Time]]] = {
        "transformer": lambda case: transformer_times(case, 256, 8, 4, whole=True),
        "pixelcnn": lambda case: pixelcnn_times(case, chosen.attention_every),
        "hierarchy": lambda case: pixelcnn_times(case, chosen.attention_every),
    }
    for name in chosen.priors:
        for side in chosen.sides:
            for batch in chosen.batches:
                case = Case(side, batch, chosen.repeats, device, levels=1 + (name == "hierarchy"))
                show(name, case, contenders[name](case))
    if device.type == "cuda":
        print("transformer: 12 layers of width 768, bfloat16")
        for batch in (128, 1024):
            case = Case(16, batch, chosen.repeats, device, torch.bfloat16)
            show("transformer", case, transformer_times(case, 768, 12, 12, whole=False))
            bound = memory_bound(case, 768, 12, 12)
            print(f"memory bandwidth allows {batch / bound:.0f} images/s: {bound:.3f} s a batch")


if __name__ == "__main__":
    main()
