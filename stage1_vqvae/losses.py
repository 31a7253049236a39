"""What a reconstruction is measured by in training."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Objective(Protocol):
    """The reconstruction term of the loss."""

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """A scalar for ``reconstruction [B, C, H, W]`` of ``images [B, C, H, W]``, mean over all elements."""
        ...


class SquaredError:
    """Mean squared error over the variance of the data (arXiv 1711.00937; NMSE where the variance is the data's).

    Args:
        data_variance: Variance of pixels in [-1, 1], so that the term weighs alike on dark and on rich images.
    """

    def __init__(self, data_variance: float = 1.0) -> None:
        if not data_variance > 0:
            raise ValueError(f"data_variance is above 0, got {data_variance}")
        self.data_variance = data_variance

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements."""
        return F.mse_loss(reconstruction, images) / self.data_variance


class AbsoluteError:
    """Mean absolute error: sharper edges, less weight on outliers."""

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements."""
        return F.l1_loss(reconstruction, images)
