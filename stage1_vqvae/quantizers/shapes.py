"""Shapes of vectors and codes: checks, rows, lookups."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def check_sizes(dim: int, codebook_size: int) -> None:
    """Raise ValueError unless there is one channel and one code at least."""
    if dim < 1 or codebook_size < 1:
        raise ValueError(f"dim and codebook_size are at least 1, got {dim} and {codebook_size}")


def checked(z: Tensor, dim: int) -> Tensor:
    """``z [B, D, *spatial]`` in float32.

    Raises:
        ValueError: If z has not D channels on its second axis.
    """
    if z.ndim < 2 or z.shape[1] != dim:
        last = " (for [B, *spatial, D] wrap the quantizer in ChannelLast)" if z.ndim > 2 and z.shape[-1] == dim else ""
        raise ValueError(f"vectors [B, {dim}, *spatial] expected, got {list(z.shape)}{last}")
    return z.float()


def rows_of(z: Tensor) -> Tensor:
    """``z [B, D, *spatial]`` as ``[N, D]``, N counting samples first and then positions in raster order."""
    return rearrange(z, "b d ... -> (b ...) d")


def finite(rows: Tensor) -> Tensor:
    """Which of ``rows [N, D]`` are finite, bool ``[N]``: those whose sum is, in one pass over them."""
    return rows.sum(1).isfinite()


def embed(codes: Tensor, codebook: Tensor) -> Tensor:
    """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]`` in ``codebook [K, D]``."""
    return F.embedding(codes, codebook).movedim(-1, 1)
