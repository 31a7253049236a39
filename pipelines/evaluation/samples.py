"""Samples measured against held-out images: how like them, how varied, and whether of the class asked for."""

from __future__ import annotations

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchmetrics import MeanMetric

from pipelines.cli.kernel import tracked
from pipelines.evaluation.batches import batches
from pipelines.evaluation.features import Features, TrainedNetwork
from pipelines.evaluation.set_metrics import PrecisionRecall, frechet_distance
from pipelines.evaluation.tokenizer import Metrics, Subject, value_of
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.devices import float64_device, in_float64


class SavedSamples(Dataset[dict[str, Tensor]]):
    """The samples of a file ``images.npz``, in whole batches, of which only what is asked for is in memory.

    Args:
        path: The file, with ``images`` uint8 ``[N, H, W, C]``, ``labels`` int64 ``[N]`` and ``codes`` ``[N, T]``.
    """

    def __init__(self, path: Path) -> None:
        self._folder = TemporaryDirectory()  # the images without compression, as long as this lives
        with zipfile.ZipFile(path) as archive:
            file = archive.extract("images.npy", self._folder.name)
        self.images = np.load(file, mmap_mode="r")
        with np.load(path) as arrays:
            self.labels = torch.from_numpy(arrays["labels"])
            self.codes = torch.from_numpy(arrays["codes"])

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """``images`` uint8 ``[B, H, W, C]``, ``labels`` int64 ``[B]`` and ``codes`` ``[B, T]``."""
        images = torch.from_numpy(self.images[indices])
        return {"images": images, "labels": self.labels[indices], "codes": self.codes[indices]}


@torch.no_grad()
def measure_samples(subject: Subject, path: Path, features: Features, network: TrainedNetwork) -> dict[str, Metrics]:
    """Measure the samples in ``path`` (``images.npz``) and, for comparison, as many training images.

    Returns:
        Metrics by section: ``samples``, ``training_images``.
    """
    samples, train = SavedSamples(path), subject.images.train
    chosen = spread(len(train), min(len(samples), len(train)))
    found = {
        "samples": compare(subject, features, samples, "samples"),
        "training_images": compare(subject, features, Subset(train, chosen), "training images"),
    }
    if network.tells_classes and subject.class_names:
        found["samples"] |= class_metrics(subject, network, samples)
    return found


def compare(subject: Subject, features: Features, made: Dataset[Any], title: str) -> Metrics:
    """Compare a set of images with the held-out images: Fréchet distance, precision and recall.

    Args:
        subject: Its held-out images are the real ones.
        features: Images are compared by these.
        made: The set, a data set that gives ``images`` uint8 ``[B, H, W, C]``.
        title: Of the progress bar.
    """
    where = float64_device(subject.device)
    distance = frechet_distance(features.dim).to(where)
    neighbours = PrecisionRecall(features.dim).to(where)
    made_order = tracked(subject.share(len(made)), title)  # type: ignore[arg-type]
    held_out = subject.images.validation
    # Of two manifolds the one with more images covers more: precision and recall are of equally many.
    equal = min(len(made), len(held_out))  # type: ignore[arg-type]
    for data, order, real in ((made, made_order, False), (held_out, list(subject.share(len(held_out))), True)):
        chosen = set(spread(len(data), equal))  # type: ignore[arg-type]
        for indices in order:
            (batch,) = batches(data, [indices], subject.device)
            seen = in_float64(features(normalize(batch["images"])))
            distance.update(seen, real=real)
            neighbours.update(seen[[index in chosen for index in indices]], real=real)
    suffix = features.suffix
    name = "fid" if suffix == "inception" else f"frechet_distance_{suffix}"
    both = {f"{name}_{suffix}": float(value) for name, value in neighbours.compute().items()}
    return {name: value_of(distance), **both}


def spread(examples: int, count: int) -> list[int]:
    """Indices of ``count`` of the examples, spread evenly over all."""
    indices: list[int] = np.linspace(0, examples - 1, count).astype(int).tolist()
    return indices


def class_metrics(subject: Subject, network: TrainedNetwork, samples: SavedSamples) -> Metrics:
    """Measure how often a classifier takes a sample for the class that was asked for."""
    agreement = MeanMetric().to(subject.device)
    for batch in batches(samples, subject.share(len(samples)), subject.device):
        seen = network.classify(normalize(batch["images"]))
        agreement.update((seen == batch["labels"]).float())
    return {"class_agreement": value_of(agreement), "classifier_accuracy": network.accuracy}
