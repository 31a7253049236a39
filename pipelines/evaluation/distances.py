"""Distances of two sets by their features, each with an interval that says how much of it is chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TIMES = 20
"""Resamples of an interval."""

INTERVAL = 0.9
"""Share of them that lies within it."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds it in 9 of 10 sets of as many images.

    Attributes:
        value: Of the sets as they are.
        low: Lower end of the interval.
        high: Its upper end.
    """

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """The three numbers under names that begin with ``name``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


Distance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of features ``[N, D]`` and ``[M, D]`` in which every row counts as often as weights ``[N]`` and ``[M]`` say."""


def estimate(distance: Distance, made: Tensor, real: Tensor, seed: int = 0) -> Estimate:
    """A distance with its bootstrap interval.

    A set that is drawn with replacement holds copies, which makes every distance larger. The interval is therefore that
    of the deviations from the resamples' own mean, laid about the value.

    Args:
        distance: Of weighted sets.
        made: Features ``[N, D]``, N at least 2.
        real: Features ``[M, D]``, M at least 2.
        seed: Of the resamples.
    """
    value = distance(made, real, made.new_ones(len(made)), real.new_ones(len(real)))
    generator = torch.Generator().manual_seed(seed)
    again = [distance(made, real, resample(made, generator), resample(real, generator)) for _ in range(TIMES)]
    deviations = torch.stack(again) - torch.stack(again).mean()
    tail = (1 - INTERVAL) / 2
    low, high = (float(value + deviations.quantile(place)) for place in (tail, 1 - tail))
    return Estimate(float(value), low, high)


def resample(features: Tensor, generator: torch.Generator) -> Tensor:
    """How often each of the rows ``[N, D]`` is drawn when N of them are drawn with replacement: ``[N]``."""
    rows = len(features)
    drawn = torch.randint(rows, (rows,), generator=generator)
    return torch.bincount(drawn, minlength=rows).to(features)


def frechet(made: Tensor, real: Tensor, made_weights: Tensor, real_weights: Tensor) -> Tensor:
    """Squared Fréchet distance of Gaussians that are fitted to two sets (arXiv 1706.08500), a scalar."""
    one, one_mean = centred(made, made_weights)
    other, other_mean = centred(real, real_weights)
    # The trace of the root of the product of both covariances: the sum of the singular values of one · otherᵀ.
    mixed = torch.linalg.svdvals(triangle(one) @ triangle(other).T).sum()
    return (one_mean - other_mean).square().sum() + one.square().sum() + other.square().sum() - 2 * mixed


def centred(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[N, D]`` whose products with themselves sum to the covariance, and the mean ``[D]``."""
    mean = weights @ features / weights.sum()
    return (features - mean) * (weights / (weights.sum() - 1)).sqrt()[:, None], mean


def triangle(rows: Tensor) -> Tensor:
    """Rows of the same covariance as ``rows [N, D]``, D at most."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def kernel_distance(made: Tensor, real: Tensor, made_weights: Tensor, real_weights: Tensor) -> Tensor:
    """Squared maximum mean discrepancy under a cubic kernel, without bias (KID, arXiv 1801.01401), a scalar."""
    between = made_weights @ cubic(made, real) @ real_weights / (made_weights.sum() * real_weights.sum())
    return within(made, made_weights) + within(real, real_weights) - 2 * between


def cubic(features: Tensor, others: Tensor) -> Tensor:
    """``(x · y / D + 1)³`` of all pairs ``[N, M]`` of rows ``[N, D]`` and ``[M, D]``."""
    return (features @ others.T / features.shape[1] + 1) ** 3


def within(features: Tensor, weights: Tensor) -> Tensor:
    """Mean of the kernel over pairs of two different rows of ``[N, D]``."""
    kernel = cubic(features, features).fill_diagonal_(0)
    return weights @ kernel @ weights / (weights.sum() ** 2 - weights.square().sum())
