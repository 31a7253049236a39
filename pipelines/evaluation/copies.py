"""Whether samples are copies of training images: how near each comes to one, beside how near held-out images come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchmetrics import Metric

from pipelines.cli.kernel import tracked
from pipelines.distributed import collectives
from pipelines.evaluation.batches import batches
from pipelines.evaluation.features import Features
from pipelines.evaluation.fixed_features import Gathered, some
from pipelines.evaluation.samples import SavedSamples
from pipelines.evaluation.tokenizer import Metrics, Subject
from pipelines.tracking.image_grid import save_image, strip_of_pairs
from stage1_vqvae.data.augmentation import normalize

NEARER_THAN = 0.01
"""A copy is nearer to a training image than all but this share of the held-out images."""

SHOWN = 16
"""Pairs in the picture."""


@dataclass(frozen=True)
class Seen:
    """Images as they are compared.

    Attributes:
        features: ``[N, D]``, each of length 1.
        codes: ``[N, T]``.
    """

    features: Tensor
    codes: Tensor


class Nearest(Metric):
    """The nearest of all training images to each of Q images, over all processes.

    Args:
        images: Q images.
    """

    full_state_update = False
    distance: Tensor
    number: Tensor
    differing: Tensor

    def __init__(self, images: Seen) -> None:
        super().__init__()
        self.features, self.codes = images.features, images.codes.float()  # float32 holds every code exactly
        rows = len(images.features)
        self.add_state("distance", torch.full((rows,), torch.inf), dist_reduce_fx=None)
        self.add_state("number", torch.zeros(rows, dtype=torch.int64), dist_reduce_fx=None)
        self.add_state("differing", torch.full((rows,), torch.inf), dist_reduce_fx=None)

    def update(self, others: Seen, numbers: list[int]) -> None:
        """Look at some of the training images, whose numbers in their set are given."""
        distance, place = torch.cdist(self.features, others.features).min(1)
        found = torch.tensor(numbers, device=place.device)[place]
        self.number = torch.where(distance < self.distance, found, self.number)
        self.distance = torch.minimum(distance, self.distance)
        differing = torch.cdist(self.codes, others.codes.float(), p=0)  # counts unequal codes
        self.differing = torch.minimum(differing.min(1).values, self.differing)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of features, number of that training image, and least share of codes that differ, ``[Q]`` each."""
        rows = len(self.features)
        distance, rank = self.distance.view(-1, rows).min(0)  # a row for each process
        number = self.number.view(-1, rows).gather(0, rank[None])[0]
        differing = self.differing.view(-1, rows).min(0).values
        return distance, number, differing / self.codes.shape[1]


@torch.no_grad()
def measure_copies(subject: Subject, path: Path, features: Features, picture: Path) -> dict[str, Metrics]:
    """Compare the samples in ``path`` (``images.npz``) with all training images.

    The first process writes the nearest pairs to ``picture``, samples in the odd rows.

    Returns:
        Metrics in the section ``copies``. What starts with ``near`` is a median: 0 for a copy.
    """
    samples = SavedSamples(path)
    sets = {"samples": some(samples), "held_out": some(subject.images.validation)}
    found = {name: seen(subject, features, data, name.replace("_", "-")) for name, data in sets.items()}
    nearest = {name: Nearest(images).to(subject.device) for name, images in found.items()}
    train = subject.images.train
    for indices in tracked(subject.share(len(train)), "training images"):
        (batch,) = batches(train, [indices], subject.device)
        others = look(subject, features, batch)
        for metric in nearest.values():
            metric.update(others, indices)
    (distance, number, differing), (usual, _, usually) = (metric.compute() for metric in nearest.values())
    if collectives.rank() == 0:
        worst = distance.argsort()[:SHOWN]
        shown: list[tuple[Dataset[Any], Tensor]] = [(sets["samples"], worst), (train, number[worst])]
        pairs = [next(batches(data, [rows.tolist()], torch.device("cpu")))["images"].numpy() for data, rows in shown]
        save_image(strip_of_pairs(*pairs), picture)
    return {
        "copies": {
            "near_in_features": float(distance.median()),
            "near_in_features_held_out": float(usual.median()),
            "copies_in_features": share_below(distance, usual),
            "near_in_codes": float(differing.median()),
            "near_in_codes_held_out": float(usually.median()),
            "copies_in_codes": share_below(differing, usually),
        }
    }


def seen(subject: Subject, features: Features, data: Dataset[Any], title: str) -> Seen:
    """All images of a set, on every process."""
    parts = Gathered().to(subject.device), Gathered().to(subject.device)
    for indices in tracked(subject.share(len(data)), title):  # type: ignore[arg-type]
        (batch,) = batches(data, [indices], subject.device)
        found = look(subject, features, batch)
        for part, rows in zip(parts, (found.features, found.codes), strict=True):
            part.update(rows, indices)
    return Seen(*(part.compute() for part in parts))


def look(subject: Subject, features: Features, batch: dict[str, Tensor]) -> Seen:
    """A batch of images as they are compared, by the codes that they were drawn or encoded as.

    What the decoder makes of the codes is looked at, of training and held-out images too: else every sample would be
    far from every image, for what the decoder leaves out.
    """
    codes = batch["codes"] if "codes" in batch else subject.tokenizer.encode(normalize(batch["images"]))
    return Seen(F.normalize(features(subject.tokenizer.decode(codes).clamp(-1, 1)), dim=1), codes)


def share_below(values: Tensor, usual: Tensor) -> float:
    """Share of ``values [N]`` below the hundredth part of the ``usual [M]`` that is lowest."""
    return float((values < usual.float().quantile(NEARER_THAN)).float().mean())
