"""Exact nearest-neighbour search that never holds the whole distance matrix."""

from __future__ import annotations

import torch
from torch import Tensor

CPU_TILE = 2**18
"""Scores held at once on a CPU (1 MiB in float32: about what its caches hold)."""
GPU_TILE = 2**26
"""Scores held at once on a GPU (256 MiB in float32)."""


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook vector in Euclidean distance, ties to the lowest.

    ``argmin |z - e|²`` is ``argmax z·e - |e|²/2``: one matrix product per tile of rows. Always in float32, also
    under autocast, where rounding would move codes.

    Args:
        points: ``[N, D]``.
        codebook: ``[K, D]``.

    Returns:
        int64 ``[N]``.
    """
    with torch.autocast(points.device.type, enabled=False):
        points, codebook = points.float(), codebook.float()
        offset = codebook.square().sum(1).mul(-0.5)  # [K]
        scores = CPU_TILE if points.device.type == "cpu" else GPU_TILE
        rows = max(1, scores // len(codebook))
        tiles = [torch.addmm(offset, tile, codebook.T).argmax(1) for tile in points.split(rows)]
        return torch.cat(tiles)
