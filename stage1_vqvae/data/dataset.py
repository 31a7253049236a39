"""Decoded images as the trainings see them: two splits that give whole batches by draw."""

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
from stage1_vqvae.data.originals import LeftOut


class ImageReader(Protocol):
    """Gives images by row; decoded from files or read from a memory map."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the images of rows ``[n]`` as uint8 ``[n, H, W, C]``."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """All readable images of one split of a source.

    Attributes:
        reader: Gives the images.
        labels: int64 ``[N]``, class index, -1 where there is none.
        digests: uint8 ``[N, 32]``, the SHA-256 of each image's pixels.
        moments: float64 ``[N, 2]``, the mean of each image's pixels in [-1, 1] and of their squares.
        files: int64 ``[N]``, a number for the file that each image is a frame of; None where each has its own.
    """

    reader: ImageReader
    labels: NDArray[np.int64]
    digests: NDArray[np.uint8]
    moments: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    files: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ImageSet:
    """A source's decoded splits, `train` and, where it has one, `validation`.

    Attributes:
        splits: The images by split.
        class_names: Names of the labels 0, 1, ... of both.
        value_range: What values became 0 and 255, for images of more than 8 bits.
        left_out: What cannot be read.
        notes: What a person should know of the images, a sentence each.
    """

    splits: dict[str, LabelledImages]
    class_names: tuple[str, ...]
    value_range: tuple[float, float] | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


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
        self._moments = images.moments
        self._digests = images.digests
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
        """Plain values for manifests; splits of equal ``digest`` hold the same images and labels in the same order."""
        return dict(self._description)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """SHA-256 of each image's pixels, uint8 ``[n, 32]``."""
        return self._digests[self._rows]

    @property
    def mean(self) -> float:
        """Mean of the pixels in [-1, 1], over all images, positions and channels."""
        return float(self._moments[self._rows, 0].mean())

    @property
    def variance(self) -> float:
        """Variance of the pixels in [-1, 1], over all images, positions and channels."""
        mean, square = self._moments[self._rows].mean(axis=0)
        return float(square - mean**2)

    def class_counts(self, classes: int) -> list[int]:
        """Returns the number of images of each of ``classes`` classes."""
        return torch.bincount(self.labels[self.labels >= 0], minlength=classes).tolist()


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
        held_back: Where the validation split comes from, in a few words.
        left_out: Files and images of the source that are in neither split.
        unreadable: How many of these are images that cannot be read.
        notes: What a person should know of the images, a sentence each.
    """

    train: ImageSplit
    validation: ImageSplit
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    augmentation: Augmentation
    workers: int
    held_back: str = ""
    left_out: tuple[LeftOut, ...] = ()
    unreadable: int = 0
    notes: tuple[str, ...] = ()
