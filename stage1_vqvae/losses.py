"""What a reconstruction is measured by in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = "pixels"
"""The term that compares pixels. A tokenizer with a likelihood has its nats in this term's place."""


class Objective(Protocol):
    """The reconstruction term of the loss."""

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """A scalar for ``reconstruction [B, C, H, W]`` of ``images [B, C, H, W]``, mean over all elements."""
        ...


class SquaredError:
    """Mean squared error over the variance of the data (arXiv 1711.00937; NMSE where the variance is the data's).

    Args:
        data_variance: Variance of pixels in [-1, 1], so that the term weighs alike on dark and on rich images. None
            counts as 1; a run measures that of its training images in its place.

    Raises:
        ValueError: If the variance is not positive.
    """

    def __init__(self, data_variance: float | None = None) -> None:
        self.data_variance = 1.0 if data_variance is None else data_variance
        if not self.data_variance > 0:
            raise ValueError(f"data_variance is above 0, got {data_variance}")

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements."""
        return F.mse_loss(reconstruction, images) / self.data_variance


class AbsoluteError:
    """Mean absolute error: sharper edges, less weight on outliers."""

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements."""
        return F.l1_loss(reconstruction, images)


class WeightedSum(nn.Module):
    """A sum of terms, each with a weight.

    Args:
        terms: Objectives by name. The one called ``pixels`` is replaced by the nats of a tokenizer that has a
            likelihood.
        weights: Of the terms, by the same names, at least 0.

    Raises:
        ValueError: If there is no term, or not one weight for each.
    """

    def __init__(self, terms: dict[str, Objective], weights: dict[str, float]) -> None:
        super().__init__()
        if not terms or set(terms) != set(weights):
            raise ValueError(f"one weight for each term expected, got terms {list(terms)} and weights {list(weights)}")
        if min(weights.values()) < 0:
            raise ValueError(f"weights are at least 0, got {dict(weights)}")
        self.objectives = dict(terms)
        self.weights = dict(weights)
        for name, term in terms.items():
            if isinstance(term, nn.Module):
                self.add_module(name, term)  # goes to the training's device

    def terms(self, reconstruction: Tensor, images: Tensor, pixels: Tensor | None = None) -> dict[str, Tensor]:
        """Each term by its name, a scalar, without its weight.

        Args:
            reconstruction: ``[B, C, H, W]``.
            images: ``[B, C, H, W]``.
            pixels: A scalar in place of the term of this name.
        """
        given = {} if pixels is None else {PIXELS: pixels}
        asked = [name for name in self.objectives if name not in given]
        return {**given, **{name: self.objectives[name](reconstruction, images) for name in asked}}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms that :meth:`terms` gives; a term without a weight has the weight 1."""
        return torch.stack([self.weights.get(name, 1.0) * value for name, value in terms.items()]).sum()

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """The weighted sum for ``reconstruction [B, C, H, W]`` of ``images [B, C, H, W]``."""
        return self.total(self.terms(reconstruction, images))


def as_sum(objective: Objective) -> WeightedSum:
    """An objective as a sum of terms: of the one, if it is not a sum already."""
    return objective if isinstance(objective, WeightedSum) else WeightedSum({PIXELS: objective}, {PIXELS: 1.0})
