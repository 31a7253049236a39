"""Sets of images in features that are the same for every run and on every machine: EfficientNet-Lite0's last."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pipelines.cli.kernel import tracked
from pipelines.evaluation.batches import batches
from pipelines.evaluation.distances import estimate, frechet, kernel_distance
from pipelines.evaluation.features import Features
from pipelines.evaluation.samples import SavedSamples, spread
from pipelines.evaluation.tokenizer import Metrics, Subject
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.devices import in_float64
from stage1_vqvae.networks.lite0 import POOLED, PooledLite0
from stage1_vqvae.tokenizer import Tokenizer

SMALLEST = 64
"""Pixels along a side that the network sees at least: smaller images are enlarged to it."""

FEWEST = 10
"""Images of a set that say anything about it."""

MOST = 2000
"""Images of a set that are compared, spread over it."""


class Lite0Features(Features):
    """The 1,280 pooled features of EfficientNet-Lite0 with its weights of ImageNet.

    Images whose shorter side has fewer than 64 pixels are enlarged to 64, bilinearly; larger ones are seen as they are.
    Grey and transparent ones are shown as :func:`stage1_vqvae.networks.lite0.as_rgb` says.

    Raises:
        ValueError: If the packages that bring the network are not installed.
    """

    suffix = "lite0"
    dim = POOLED

    def __init__(self, device: torch.device) -> None:
        self.network = PooledLite0().to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features ``[B, 1280]``."""
        shortest = min(images.shape[-2:])
        if shortest < SMALLEST:
            size = [round(side * SMALLEST / shortest) for side in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.network(images)


class Gathered(Metric):
    """Rows of all processes, in the order of their numbers."""

    full_state_update = False
    rows: list[Tensor]
    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("numbers", [], dist_reduce_fx="cat")

    def update(self, rows: Tensor, numbers: list[int]) -> None:
        """Add ``rows [B, ...]`` and the ``B`` numbers by which they are ordered."""
        self.rows.append(rows)
        self.numbers.append(torch.tensor(numbers, device=rows.device))

    def compute(self) -> Tensor:
        """All rows ``[N, ...]``."""
        return dim_zero_cat(self.rows)[dim_zero_cat(self.numbers).argsort()]


def features_of(
    subject: Subject, features: Features, data: Dataset[Any], title: str, seen_by: Tokenizer | None = None
) -> Tensor:
    """Features ``[N, dim]`` in float64 of the images of a set, or of what a tokenizer makes of them."""
    gathered = Gathered().to(subject.device)
    share = subject.share(len(data))  # type: ignore[arg-type]
    for indices in tracked(share, title):
        (batch,) = batches(data, [indices], subject.device)
        images = normalize(batch["images"])
        if seen_by is not None:
            images = seen_by.decode(seen_by.encode(images)).clamp(-1, 1)
        gathered.update(features(images), indices)
    return in_float64(gathered.compute())


def some(data: Dataset[Any], most: int = MOST) -> Subset[Any]:
    """The set, or as many of it as are compared at most."""
    return Subset(data, spread(len(data), min(most, len(data))))  # type: ignore[arg-type]


def distances(made: Tensor, real: Tensor, seed: int) -> Metrics:
    """``lite0_frechet`` and ``lite0_kid`` of equally many of the features ``[N, D]`` and ``[M, D]``; none of a few."""
    equal = min(len(made), len(real))
    if equal < FEWEST:
        return {}
    one, other = (rows[spread(len(rows), equal)] for rows in (made, real))
    found = {"lite0_frechet": frechet, "lite0_kid": kernel_distance}
    return {
        key: value for name, of in found.items() for key, value in estimate(of, one, other, seed).named(name).items()
    }


class HeldOut:
    """The held-out images in fixed features, looked at once for all that is compared with them.

    Args:
        subject: What is evaluated.
        features: The same for every run.
    """

    def __init__(self, subject: Subject, features: Features) -> None:
        self.subject = subject
        self.features = features
        self.images = some(subject.images.validation)

    @cached_property
    def seen(self) -> Tensor:
        """Their features ``[N, dim]``."""
        return features_of(self.subject, self.features, self.images, "held-out images")


@torch.no_grad()
def measure_reconstructions(held_out: HeldOut) -> dict[str, Metrics]:
    """Distances of reconstructions from the held-out images that they are of, in the section ``reconstruction``."""
    subject = held_out.subject
    made = features_of(subject, held_out.features, held_out.images, "reconstructions", subject.tokenizer)
    return {"reconstruction": distances(made, held_out.seen, subject.seed)}


@torch.no_grad()
def measure_in_fixed_features(held_out: HeldOut, path: Path) -> dict[str, Metrics]:
    """Distances from the held-out images of the samples in ``path`` (``images.npz``) and of as many training images.

    Returns:
        Metrics by section: ``samples``, ``training_images``.
    """
    subject = held_out.subject
    samples, train = SavedSamples(path), subject.images.train
    sets = {"samples": some(samples), "training_images": some(train, min(MOST, len(samples)))}
    return {
        name: distances(
            features_of(subject, held_out.features, data, name.replace("_", " ")), held_out.seen, subject.seed
        )
        for name, data in sets.items()
    }
