"""What quantizers take, and vectors as rows."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor


def checked(z: Tensor, dim: int) -> Tensor:
    """``z [B, D, *spatial]`` in float32.

    Raises:
        ValueError: If z has not D channels, or no spatial axis.
    """
    if z.ndim < 3 or z.shape[1] != dim:
        raise ValueError(f"vectors [B, {dim}, *spatial] expected, got {list(z.shape)}")
    return z.float()


def rows_of(z: Tensor) -> Tensor:
    """``z [B, D, *spatial]`` as ``[N, D]``, N counting samples first and then positions in raster order."""
    return rearrange(z, "b d ... -> (b ...) d")
