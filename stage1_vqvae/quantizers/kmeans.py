"""k-means, to start a codebook where the data are."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.search import Metric, nearest, unit_length


def kmeans(points: Tensor, number: Tensor, clusters: int, iterations: int = 10, metric: Metric = "euclidean") -> Tensor:
    """Lloyd's algorithm from the first ``clusters`` points (repeated where there are fewer): centres ``[K, D]``.

    The points are expected in random order, so that the first ones are a random start. An empty cluster keeps its
    centre.

    Args:
        points: ``[N, D]``, of which the first ``number`` count and the others are zeros.
        number: How many count, an int64 scalar on the device, which is not read back.
        clusters: K.
        iterations: Rounds of assigning and averaging.
        metric: ``cosine`` is for points of length 1 and keeps centres there too (spherical k-means).
    """
    counted = (torch.arange(len(points), device=points.device) < number).to(points.dtype)
    centres = points[torch.arange(clusters, device=points.device) % number.clamp(min=1)]
    for _ in range(iterations):
        assigned = nearest(points, centres)
        counts = points.new_zeros(clusters).index_add_(0, assigned, counted)
        sums = torch.zeros_like(centres).index_add_(0, assigned, points)
        means = sums / counts.clamp(min=1)[:, None]
        centres = torch.where(counts[:, None] > 0, unit_length(means, 1) if metric == "cosine" else means, centres)
    return centres
