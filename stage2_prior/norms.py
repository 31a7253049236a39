"""Root-mean-square norms (arXiv 1910.07467), as priors train with them and as their incremental forms compute them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = torch.finfo(torch.float32).eps
"""What norms add to a mean square, in any precision: bfloat16's own would be as large as the embeddings' squares."""


class Norm(nn.RMSNorm):
    """An RMSNorm over the last axis, by one kernel under autocast too: PyTorch has none for a weight of another type.

    Args:
        channels: D.

    Shape: ``[..., D]`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [..., D]``; the result has its type."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class ChannelNorm(Norm):
    """An RMSNorm over the channels of each position of a grid, apart from all other positions and images.

    Args:
        channels: C.

    Shape: ``[B, C, H, W]`` to the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [B, C, H, W]``."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def normalised(x: Tensor, epsilon: Tensor, out: Tensor | None = None) -> Tensor:
    """``x [..., D]`` over its root mean square: an RMSNorm without a weight, in fewer operations than PyTorch's.

    Args:
        x: ``[..., D]``.
        epsilon: :data:`EPSILON`, ``[1]``, on the device of ``x``.
        out: Where the result is written; None allocates it.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.addcmul(epsilon, norm, norm, value=1 / x.shape[-1]).rsqrt_()
    return torch.mul(x, scale, out=out)
