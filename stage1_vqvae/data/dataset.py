"""What training images are to the rest of the house: two splits that give whole batches by draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stage1_vqvae.data.augmentation import Augmentation


class ImageReader(Protocol):
    """Gives images by row; decoded from files or read from a memory map."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the images of rows ``[n]`` as uint8 ``[n, H, W, C]``."""
        ...


class UnreadableImage(ValueError):
    """An image that cannot be read: ``where`` it is (a path, or a row of a file) and the ``reason``."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} is no readable image ({reason}): replace or remove it")
        self.where = where
        self.reason = reason


@dataclass(frozen=True)
class Quarantined:
    """An image that was left out because it cannot be read."""

    split: str
    where: str
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """All images of one split of a source.

    Attributes:
        reader: Gives the images.
        labels: int64 ``[N]``, class index, -1 where there is none.
        digests: uint8 ``[N, 32]``, a SHA-256 for each image: of its pixels where the set is cached, of the
            identity of what it is read from where it is streamed. `ImageCache.open` fills it in.
    """

    reader: ImageReader
    labels: NDArray[np.int64]
    digests: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 32), dtype=np.uint8))


@dataclass(frozen=True)
class ImageSet:
    """A source's splits, `train` and, where it has one, `validation`, and the class names they share.

    `ImageCache.open` leaves images out that cannot be read, and lists them.
    """

    splits: dict[str, LabelledImages]
    class_names: tuple[str, ...]
    quarantine: tuple[Quarantined, ...] = ()


class ImageSplit(Dataset[dict[str, Tensor]]):
    """A map-style dataset over some rows of a split, which gives a whole batch at once.

    It is indexed by *draws*: draw ``epoch * len(split) + index`` is image ``index``, and the number itself keys
    augmentation. A `DataLoader` over it needs a `collate_fn` that hands the batch through.

    Args:
        images: The images rows are taken from.
        rows: int64 ``[n]``, the rows of `images` that belong to the split.
        origin: Plain values that say what the images are and how they were made; goes into `description`.
    """

    def __init__(self, images: LabelledImages, rows: NDArray[np.int64], origin: dict[str, Any]) -> None:
        self._reader = images.reader
        self._rows = rows
        self.labels = torch.from_numpy(images.labels[rows].copy())
        content = hashlib.sha256(images.labels[rows].tobytes())
        content.update(images.digests[rows].tobytes())
        self._description = {**origin, "count": len(rows), "digest": content.hexdigest()}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, draws: list[int]) -> dict[str, Tensor]:
        """Returns a batch: `images` uint8 ``[B, H, W, C]``, `labels` int64 ``[B]`` and `draws` int64 ``[B]``."""
        numbers = torch.as_tensor(draws, dtype=torch.int64)
        indices = numbers % len(self)
        images = self._reader.read(self._rows[indices.numpy()])
        return {"images": torch.from_numpy(images), "labels": self.labels[indices], "draws": numbers}

    @property
    def description(self) -> dict[str, Any]:
        """Plain values for manifests; splits of equal descriptions hold the same images in the same order."""
        return dict(self._description)


@dataclass(frozen=True)
class ImageData:
    """Training and validation images, and how they are to be used.

    Attributes:
        train: Split to learn from.
        validation: Split that is held back.
        class_names: Name of each class; empty when there are no labels.
        image_size: Height and width in pixels.
        channels: 1 to 4.
        augmentation: What to do to training batches on the device.
        workers: `DataLoader` workers worth using: 0 where images are memory-mapped.
        quarantine: Images of the source that cannot be read and are in neither split.
    """

    train: ImageSplit
    validation: ImageSplit
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    augmentation: Augmentation
    workers: int
    quarantine: tuple[Quarantined, ...] = ()


def hold_out(labels: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Chooses rows to hold back for validation, in equal parts of every class, always the same ones.

    Args:
        labels: int64 ``[N]``; -1 is a class like the others.
        fraction: Part to hold back, between 0 and 1.

    Returns:
        bool ``[N]``, true for ``round(fraction * N)`` rows, at least one and at most ``N - 1``.
    """
    total = len(labels)
    order = np.argsort(_fixed_hash(total), kind="stable")
    quantiles = np.empty(total)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        quantiles[members] = (np.arange(len(members)) + 0.5) / len(members)
    count = min(max(round(fraction * total), 1), total - 1)
    held = np.zeros(total, dtype=bool)
    held[order[np.argsort(quantiles[order], kind="stable")[:count]]] = True
    return held


def _fixed_hash(count: int) -> NDArray[np.uint64]:
    """Hashes 0..count-1 by SplitMix64: a shuffle that no version of numpy changes."""
    values = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
