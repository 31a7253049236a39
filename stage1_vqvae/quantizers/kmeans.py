"""k-means, to start a codebook where the data are."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.search import Metric, nearest, unit_length


def kmeans(points: Tensor, clusters: int, iterations: int = 10, metric: Metric = "euclidean") -> Tensor:
    """Lloyd's algorithm from the first ``clusters`` points (repeated where there are fewer): centres ``[K, D]``.

    The points are expected in random order, so that the first ones are a random start. An empty cluster keeps its
    centre.

    Args:
        points: ``[N, D]``, N at least 1.
        clusters: K.
        iterations: Rounds of assigning and averaging.
        metric: ``cosine`` is for points of length 1 and keeps centres there too (spherical k-means).
    """
    centres = points[torch.arange(clusters, device=points.device) % len(points)].clone()
    for _ in range(iterations):
        assigned = nearest(points, centres)
        counts = points.new_zeros(clusters).index_add_(0, assigned, points.new_ones(len(points)))
        sums = torch.zeros_like(centres).index_add_(0, assigned, points)
        means = sums / counts.clamp(min=1)[:, None]
        centres = torch.where(counts[:, None] > 0, unit_length(means, 1) if metric == "cosine" else means, centres)
    return centres
