"""How fast a PixelCNN draws codes, with its cache and without: ``python -m tests.benchmarks.pixelcnn``.

The loops without a cache would run for many minutes, so a few of their steps are timed and stand for all.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn import PixelCNN
from stage2_prior.sampling import draw, image_noise, sample
from tests.benchmarks.timing import seconds

CODES = 512
HEADINGS = ("grid", "batch", "full forwards", "rows so far", "cached", "images/s", "x full", "x rows")


def step_of_full_forwards(prior: PixelCNN, codes: Tensor, labels: Tensor, noise: Tensor, position: int) -> Tensor:
    """One step of the plain loop: all of the grid goes through the prior, whatever is drawn so far."""
    return draw(prior(codes, labels)[:, position], noise[:, position])


def step_of_rows_so_far(prior: PixelCNN, codes: Tensor, labels: Tensor, noise: Tensor, position: int) -> Tensor:
    """The same with the rows up to the current one only."""
    return draw(prior(codes[:, : position + 1], labels)[:, position], noise[:, position])


@torch.no_grad()
def row(side: int, batch: int, repeats: int, attention_every: int | None) -> list[str]:
    """A row of the table: seconds per batch of each contender, images per second of the cached one, ratios."""
    layout = CodeLayout(((side, side),), (CODES,))
    prior = PixelCNN(layout, 10, channels=64, layers=15, attention_every=attention_every).eval()
    codes = torch.randint(CODES, (batch, layout.length))
    labels, noise = torch.arange(batch) % 10, image_noise(0, range(batch), layout.length)
    cached = seconds(lambda: sample(prior, labels, noise), repeats)
    full = layout.length * seconds(lambda: step_of_full_forwards(prior, codes, labels, noise, 0), repeats)
    ends = [side * quarter // 4 * side - 1 for quarter in (1, 2, 3, 4)]  # the last places of four rows
    share = [seconds(lambda end=end: step_of_rows_so_far(prior, codes, labels, noise, end), 1) for end in ends]
    # Cost grows with the rows; the mean of four quarters' ends is half a quarter too far.
    rows = layout.length * sum(share) / len(share) * (side + 1) / (1.25 * side)
    figures = [f"{full:.2f} s", f"{rows:.2f} s", f"{cached:.3f} s", f"{batch / cached:.2f}"]
    return [f"{side}x{side}", str(batch), *figures, f"{full / cached:.0f}", f"{rows / cached:.0f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--attention-every", type=int)
    chosen = parser.parse_args()
    print(f"PixelCNN, 15 layers of 64 channels, {CODES} codes, {torch.get_num_threads()} threads, seconds a batch")
    print("".join(f"{heading:>15}" for heading in HEADINGS))
    for side in chosen.sides:
        for batch in chosen.batches:
            cells = row(side, batch, chosen.repeats, chosen.attention_every)
            print("".join(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
