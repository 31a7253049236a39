"""Features by which sets of images are compared: of a small network of the run's own, or of Inception."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3

from pipelines.artifacts.models import Saved, save_model
from pipelines.artifacts.run_folder import finished
from pipelines.distributed import collectives
from pipelines.evaluation.batches import batches
from pipelines.training.data import EvaluationOrder, TrainingOrder
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.data.dataset import ImageData, ImageSplit
from stage1_vqvae.files import read_json, write_json

LARGEST = 64
"""Pixels along a side that the own network sees at most: larger images are reduced."""


class FeatureNetwork(nn.Module):
    """A small convolutional classifier; its last hidden layer gives the features.

    Args:
        channels: C, of the images.
        classes: That it tells apart.
        width: Of the first convolution; each further one has twice as many channels.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(4, outer), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, 64), nn.ReLU()
        )
        self.head = nn.Linear(64, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features ``[B, 64]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        height, width = images.shape[-2:]
        if max(height, width) > LARGEST:
            images = F.interpolate(images, (min(height, LARGEST), min(width, LARGEST)), mode="area")
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self.head(self.features(images))


@dataclass(frozen=True)
class OwnNetwork:
    """A small network trained on the run's training images: to tell their classes, or how they are turned.

    Without labels it learns which of four (of images that are not square, two) turns was applied to an image
    (RotNet, arXiv 1803.07728), which takes knowing what the images show.

    Attributes:
        steps: Of training, with Adam and batches of 64.
        width: Of the network.
    """

    steps: int = 800
    width: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1 or self.width < 4 or self.width % 4:
            raise ValueError(f"steps is at least 1 and width a multiple of 4, got {self.steps} and {self.width}")

    def load(self, folder: Path, images: ImageData, seed: int, device: torch.device) -> TrainedNetwork:
        """The network of a folder, trained by the first process if it is not there yet."""
        turns = () if images.class_names else turns_of(images.image_size)
        classes = len(images.class_names) or len(turns)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = FeatureNetwork(images.channels, classes, self.width)
        if collectives.rank() == 0 and not finished(folder):
            train(network.to(device), images, turns, self.steps, seed, device)
            write_json(folder / "metrics.json", {"accuracy": accuracy(network, images.validation, turns, device)})
            save_model(folder, "features", network, {"classes": classes, "turns": list(turns)})
        collectives.barrier()
        Saved.open(folder, "features").load_weights(network)
        known = read_json(folder / "metrics.json")["accuracy"]
        return TrainedNetwork(network.eval().to(device), known, tells_classes=not turns)


class Features(ABC):
    """Maps images to vectors in which sets of images are compared.

    Attributes:
        suffix: Ends the names of metrics that compare these features.
        dim: Length of a vector.
    """

    suffix: str
    dim: int

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features ``[B, dim]`` of ``images [B, C, H, W]`` in [-1, 1]."""


class TrainedNetwork(Features):
    """Features of the run's own network.

    Args:
        network: The network.
        accuracy: Its share of right answers on held-out images.
        tells_classes: Whether its answers are the run's classes.
    """

    suffix = "own_features"
    dim = 64

    def __init__(self, network: FeatureNetwork, accuracy: float, tells_classes: bool) -> None:
        self.network = network
        self.accuracy = accuracy
        self.tells_classes = tells_classes

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features ``[B, 64]``."""
        return self.network.features(images)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """The class that each of ``images [B, C, H, W]`` looks like: int64 ``[B]``."""
        return self.network(images).argmax(1)


class InceptionFeatures(Features):
    """The 2,048 features of the Inception network that FID is defined by (arXiv 1706.08500).

    Raises:
        ValueError: If the package that brings the network is not installed.
        OSError: If its weights cannot be downloaded.
    """

    suffix = "inception"
    dim = 2048

    def __init__(self, device: torch.device) -> None:
        if find_spec("torch_fidelity") is None:
            raise ValueError("features=inception needs a package: pip install 'vqvae-prior[fid]', or features=own")
        self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"]).to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features ``[B, 2048]`` of the images as 8-bit RGB."""
        colour = images[:, : 3 if images.shape[1] >= 3 else 1].expand(-1, 3, -1, -1)
        return self.network(((colour + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))


def turns_of(image_size: tuple[int, int]) -> tuple[int, ...]:
    """Quarter turns that leave an image's size as it is."""
    return (0, 1, 2, 3) if image_size[0] == image_size[1] else (0, 2)


def questions(images: Tensor, labels: Tensor, turns: tuple[int, ...], draws: Tensor) -> tuple[Tensor, Tensor]:
    """What the network sees and what it should answer: labels as they are, or turned images and their turns."""
    if not turns:
        return images, labels
    # Every image is seen in each of its turns, one an epoch.
    answers = (draws + draws.div(7, rounding_mode="floor")) % len(turns)
    seen = torch.stack([image.rot90(turns[int(answer)], (1, 2)) for image, answer in zip(images, answers, strict=True)])
    return seen, answers


def train(
    network: FeatureNetwork, images: ImageData, turns: tuple[int, ...], steps: int, seed: int, device: torch.device
) -> None:
    """Train on the images as the run augments them; the same seed gives the same network."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    data = images.train
    order = TrainingOrder(len(data), min(64, len(data)), steps, 0, seed)
    for batch in batches(data, order, device):
        seen = images.augmentation(batch["images"], batch["draws"], seed)
        seen, answers = questions(seen, batch["labels"], turns, batch["draws"])
        known = answers >= 0  # an image of a labelled set may lack its label
        loss = F.cross_entropy(network(seen)[known], answers[known])
        if known.any():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(network: FeatureNetwork, data: ImageSplit, turns: tuple[int, ...], device: torch.device) -> float:
    """Share of right answers."""
    right = asked = 0
    for batch in batches(data, EvaluationOrder(len(data), 256), device):
        seen, answers = questions(normalize(batch["images"]), batch["labels"], turns, batch["draws"])
        right += int((network(seen).argmax(1) == answers).sum())
        asked += int((answers >= 0).sum())
    return right / max(asked, 1)
