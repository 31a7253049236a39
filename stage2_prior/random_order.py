"""Training in random orders that is annealed to raster order (RAR, arXiv 2411.00776).

A code that is predicted after any others teaches a prior what lies below and to the right, which raster order never
shows. By the end of the training all rows are in raster order, in which codes are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout


@dataclass(frozen=True)
class RandomOrder:
    """How many rows of a batch are in random order, along the training.

    Attributes:
        start: Share of the training's steps up to which every row is.
        end: Share from which none is; between the two the probability of a row falls in a line.

    Raises:
        ValueError: If they are not two shares in rising order.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"random_order is two shares of the training in rising order, from 0 to 1, or null, "
                f"got {[self.start, self.end]}"
            )

    def probability(self, step: int, steps: int) -> float:
        """Probability that a row is in random order, in a step of so many, the first of which is 0."""
        return min(max((self.end - step / steps) / (self.end - self.start), 0.0), 1.0)


def draw_orders(layout: CodeLayout, batch: int, probability: float, device: torch.device) -> Tensor:
    """Orders in which rows are predicted: positions, int64 ``[B, T]``.

    Grids stay one after another, coarse to fine; the positions of each are shuffled among themselves.

    Args:
        layout: How codes are laid out.
        batch: B.
        probability: Of a row to be shuffled; the others are in raster order.
        device: Where the orders are made, by torch's random numbers there.
    """
    shuffled = torch.rand(batch, 1, device=device) < probability
    grids, first = [], 0
    for length in layout.lengths:
        grids.append(torch.rand(batch, length, device=device).argsort(1) + first)
        first += length
    return torch.where(shuffled, torch.cat(grids, dim=1), torch.arange(first, device=device))
