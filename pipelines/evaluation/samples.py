"""Samples measured against held-out images: how like them, how varied, and whether of the class asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torchmetrics import MeanMetric

from pipelines.cli.command import console
from pipelines.evaluation.features import Features, TrainedNetwork
from pipelines.evaluation.set_metrics import PrecisionRecall, frechet_distance
from pipelines.evaluation.tokenizer import Figures, Subject, value_of
from stage1_vqvae.data.augmentation import normalize


class SetComparison:
    """Sets of images against the held-out ones.

    Args:
        subject: Whose held-out images.
        features: In which they are compared.
    """

    def __init__(self, subject: Subject, features: Features) -> None:
        self.subject = subject
        self.features = features
        self.distance = frechet_distance(features.dim).to(subject.device)
        self.distance.reset_real_features = False
        self.neighbours = PrecisionRecall(features.dim).to(subject.device)

    def add(self, images: np.ndarray[Any, Any] | torch.Tensor, real: bool) -> None:
        """Add ``images`` uint8 ``[B, H, W, C]``."""
        features = self.features(normalize(torch.as_tensor(images).to(self.subject.device))).double()
        self.distance.update(features, real=real)
        self.neighbours.update(features, real=real)

    def figures(self) -> Figures:
        """Fréchet distance, precision and recall of the set, over all processes."""
        suffix = self.features.suffix
        distance = "fid" if suffix == "inception" else f"frechet_distance_{suffix}"
        both = {f"{name}_{suffix}": float(value) for name, value in self.neighbours.compute().items()}
        return {distance: value_of(self.distance), **both}


@torch.no_grad()
def measure_samples(subject: Subject, path: Path, features: Features, network: TrainedNetwork) -> dict[str, Figures]:
    """Figures of the samples in ``path`` (``images.npz``) and, to compare with, of as many training images.

    Returns:
        Figures by section: ``samples``, ``training_images``.
    """
    with np.load(path) as arrays:
        images, labels = arrays["images"], torch.from_numpy(arrays["labels"])
    train: Any = subject.images.train
    spread = np.linspace(0, len(train) - 1, min(len(images), len(train))).astype(int)
    sets = {
        "samples": (len(images), lambda chosen: images[chosen]),
        "training_images": (len(spread), lambda chosen: train.__getitems__(spread[chosen].tolist())["images"]),
    }
    found: dict[str, Figures] = {}
    for name, (count, read) in sets.items():
        comparison = SetComparison(subject, features)
        for indices in track(subject.mine(count), name.replace("_", " "), console=console):
            comparison.add(read(indices), real=False)
        held_out: Any = subject.images.validation
        for indices in subject.mine(len(held_out)):
            comparison.add(held_out.__getitems__(indices)["images"], real=True)
        found[name] = comparison.figures()
    if network.tells_classes and subject.class_names:
        agreement = MeanMetric().to(subject.device)
        for indices in subject.mine(len(images)):
            seen = network.classify(normalize(torch.from_numpy(images[indices]).to(subject.device)))
            agreement.update((seen == labels[indices].to(subject.device)).float())
        found["samples"] |= {"class_agreement": value_of(agreement), "classifier_accuracy": network.accuracy}
    return found
