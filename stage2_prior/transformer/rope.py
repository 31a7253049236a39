"""Rotary position embeddings (RoPE, arXiv 2104.09864) over the axes of a layout's grids."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout

AXES = 3
"""Axes of a grid at most; grids with fewer lie at 0 on the others."""


def coordinates(layout: CodeLayout) -> Tensor:
    """Centre of every position in the finest grid's units, float32 ``[T, AXES]``."""
    per_grid = []
    for grid in layout.grids:
        finest = [max(other[axis] for other in layout.grids if len(other) == len(grid)) for axis in range(len(grid))]
        axes = [(torch.arange(size) + 0.5) * fine / size for size, fine in zip(grid, finest, strict=True)]
        axes += [torch.zeros(1)] * (AXES - len(grid))
        per_grid.append(torch.cartesian_prod(*axes))
    return torch.cat(per_grid)


def rope(positions: Tensor, axes: int, dim: int, longest: float = 100.0) -> Tensor:
    """The rotation of every pair of channels, the pairs shared out among the axes.

    Args:
        positions: Coordinates, ``[T, AXES]``.
        axes: Number of axes in use, at least 1.
        dim: Channels of a head.
        longest: Longest wavelength over 2π, in positions.

    Returns:
        Cosines and sines, ``[2, T, dim / 2]``.
    """
    angles = []
    for axis, pairs in enumerate(torch.arange(dim // 2).tensor_split(axes)):
        frequencies = longest ** (-torch.arange(len(pairs)) / max(len(pairs), 1))
        angles.append(positions[:, axis, None] * frequencies)
    angle = torch.cat(angles, dim=1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the pairs ``(x[i], x[i + D/2])`` of ``x [B, heads, T, D]`` by ``rotation [2, (B, 1,) T, D / 2]``."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = rotation.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
