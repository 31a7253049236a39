"""Root-mean-square norms (arXiv 1910.07467), as priors train with them and as their incremental forms compute them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPSILON = torch.finfo(torch.float32).eps
"""What norms add to a mean square, in any precision: bfloat16's own would be as large as the embeddings' squares."""


class Norm(nn.RMSNorm):
    """An RMSNorm over the last axis, by one kernel under autocast too: PyTorch has none for a weight of another type.

    On a CPU, training in float32 has gradients of its own, which take half the time of PyTorch's.

    Args:
        channels: D.

    Shape: ``[..., D]`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [..., D]``; the result has its type."""
        weight = self.weight.to(x.dtype)
        if x.device.type == "cpu" and x.dtype.itemsize >= 4 and not torch.compiler.is_compiling():
            normed: Tensor = _CPUNorm.apply(x, weight)
            return normed
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


class _CPUNorm(torch.autograd.Function):
    """An RMSNorm of ``x [..., D]`` with a weight ``[D]``, in operations that a CPU has fast kernels for.

    A factor of each row is not broadcast but multiplied out with a row of ones or weights. With ``y = x s``, s being
    one over the root mean square, the gradient is ``s (g w - y mean(g w y))``. PyTorch's kernel for LayerNorm, for a
    mean of 0, gives ``s (g w - mean(g w) - y mean(g w y))``.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # [N, D]
        scale = _over_root_mean_square(rows, rows.new_full((1,), EPSILON))  # [N, 1]
        context.save_for_backward(rows, scale, weight)
        with torch.autocast("cpu", enabled=False):  # which would make the product a bfloat16
            return torch.mm(scale, weight[None]).mul_(rows).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, scale, weight = context.saved_tensors
        given, dim = gradient.reshape(rows.shape), rows.shape[1:]
        of_rows, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
            given, rows, dim, torch.zeros_like(scale), scale, weight, None, [True, True, False]
        )
        with torch.autocast("cpu", enabled=False):
            mean = torch.mv(given, weight)[:, None].mul_(scale).div_(rows.shape[1])  # [N, 1]
            return of_rows.addmm_(mean, torch.ones_like(rows[:1])).view(gradient.shape), of_weight


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
    return torch.mul(x, _over_root_mean_square(x, epsilon), out=out)


def _over_root_mean_square(x: Tensor, epsilon: Tensor) -> Tensor:
    """One over the root mean square of ``x [..., D]`` along its last axis, ``[..., 1]``; see :func:`normalised`."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(epsilon, norm, norm, value=1 / x.shape[-1]).rsqrt_()
