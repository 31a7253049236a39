"""Metrics of two sets of images by their features, over all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from stage1_vqvae.devices import in_float64

NEIGHBOURS = 3
"""k of the manifolds' radii, as the paper has it."""

CHUNK = 1024
"""Rows of a matrix of distances that are in memory at once."""


class GivenFeatures(nn.Module):
    """Lets torchmetrics take features for images."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        """The features as they are."""
        return features


def frechet_distance(dim: int) -> FrechetInceptionDistance:
    """Fréchet distance of Gaussians fitted to features ``[B, dim]``; FID only where the features are Inception's."""
    return FrechetInceptionDistance(GivenFeatures(dim))


class PrecisionRecall(Metric):
    """Precision and recall of a set of images against another (Kynkäänniemi et al., arXiv 1904.06991).

    Precision is the share of the made images' features that lie within the real ones' manifold, recall the share of
    the real ones' that lie within the made ones'. A set's manifold is the union of balls about its features, each
    reaching to the k-th nearest other feature of the set.
    """

    full_state_update = False
    real: list[Tensor]
    made: list[Tensor]

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("made", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add ``features [B, dim]`` to one of the sets."""
        (self.real if real else self.made).append(in_float64(features))

    def compute(self) -> dict[str, Tensor]:
        """``precision`` and ``recall``, in [0, 1]."""
        real, made = dim_zero_cat(self.real), dim_zero_cat(self.made)
        return {"precision": share_within(made, real), "recall": share_within(real, made)}


def share_within(points: Tensor, others: Tensor) -> Tensor:
    """Share of ``points [N, d]`` within the manifold of ``others [M, d]``, ``M > k``."""
    k = min(NEIGHBOURS, len(others) - 1)
    # The nearest is the point itself.
    radii = torch.cat([torch.cdist(part, others).kthvalue(k + 1, dim=1).values for part in others.split(CHUNK)])
    within = [(torch.cdist(part, others) <= radii).any(1) for part in points.split(CHUNK)]
    return in_float64(torch.cat(within)).mean()
