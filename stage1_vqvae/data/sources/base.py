"""What every source of images shares: its settings, its cache, and how it is divided into two splits."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.data.cache import ImageCache, default_cache_folder
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.data.holdout import divide
from stage1_vqvae.data.originals import LeftOut, OriginalSet
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.data.shards import MemoryMappedImages
from stage1_vqvae.processors import processors

MOST_WORKERS = 8
"""`DataLoader` workers of a process, unless the user says how many."""
IN_MEMORY = 2**30
"""Bytes of decoded images that the operating system is trusted to keep in memory. More are read ahead, by workers."""


@dataclass(frozen=True)
class Found:
    """A source that has been found but not read.

    Attributes:
        name: What manifests, progress bars and errors call it.
        identity: Plain values that change whenever its images do.
        read: Opens it for decoding.
        left_out: Files that were passed over.
        notes: What a person should know of it, a sentence each.
    """

    name: str
    identity: dict[str, Any]
    read: Callable[[], OriginalSet]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class ImageSource(ABC):
    """Settings that every source shares.

    A source of your own is a dataclass that inherits from this one and has a `find`; ``_target_`` of ``data`` names it.

    Args:
        image_size: Height and width that images are resized and cropped to.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        range: The values of images of more than 8 bits that become black and white; None finds one range for the set.
        validation: Fraction to hold back where the source has neither a validation nor a test split.
        holdout: What decides which images are held back: their ``content``, so that one more image moves no other and
            exact copies stay together, or their ``position`` in the set, as in version 0.1.0.
        augmentation: What to do to training batches.
        cache: Folder of decoded images; None for `vqvae-prior` in the user's cache folder.
        cache_gib: Sets that decode to more than this many GiB are decoded while training instead; None for no set.
        jpeg_draft: Whether large JPEGs are decoded at a fraction of their size, see `Preprocessing`.
        workers: `DataLoader` workers of each process for sets that are decoded while training, or too large to stay in
            memory; None for one per core, shared among the machine's processes, at most 8. Each computes on one thread.
        max_bad: Largest share of images that may be unreadable: they are left out and listed. 0 refuses any.

    Raises:
        ValueError: If a value is out of range.
    """

    image_size: Sequence[int]
    channels: int
    range: Sequence[float] | None = None
    validation: float = 0.1
    holdout: Literal["content", "position"] = "content"
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache: str | None = None
    cache_gib: float | None = None
    jpeg_draft: bool = True
    workers: int | None = None
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.image_size, int) or len(self.image_size) != 2:
            raise ValueError(f"data.image_size is [height, width] in pixels, got {self.image_size}")
        if self.range is not None and len(self.range) != 2:
            raise ValueError(f"data.range is [darkest, brightest] value, got {self.range}")
        height, width = self.image_size
        value_range = None if self.range is None else (float(self.range[0]), float(self.range[1]))
        self.preprocessing = Preprocessing(int(height), int(width), int(self.channels), value_range, self.jpeg_draft)
        if not 0 < self.validation < 1:
            raise ValueError(f"data.validation is a fraction between 0 and 1, got {self.validation}")
        if self.holdout not in ("content", "position"):
            raise ValueError(f"data.holdout is content or position, got {self.holdout}")
        if self.cache_gib is not None and self.cache_gib < 0:
            raise ValueError(f"data.cache_gib is a size in GiB, 0 or more, got {self.cache_gib}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"data.workers is a number of processes, 0 or more, got {self.workers}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad is a share between 0 and 1, got {self.max_bad}")

    @property
    def cache_folder(self) -> Path:
        """Where decoded images are kept."""
        return Path(self.cache).expanduser() if self.cache else default_cache_folder()

    @abstractmethod
    def find(self) -> Found:
        """Looks for the source's files.

        Raises:
            ValueError: If they are not there.
        """

    def open(self) -> ImageData:
        """Opens the images, decoding them into the cache the first time.

        Raises:
            ValueError: If files are missing or broken, or a setting does not fit them.
        """
        found = self.find()
        cache = ImageCache(self.cache_folder, self.cache_gib, self.preprocessing, self.max_bad)
        images = cache.open(found.name, found.identity, found.read)
        preprocessing = replace(self.preprocessing, value_range=images.value_range)
        origin = {"source": found.name, "preprocessing": preprocessing.describe()}
        divided = divide(images, origin, self.validation, self.holdout)
        reader = images.splits["train"].reader
        in_memory = isinstance(reader, MemoryMappedImages) and reader.nbytes <= IN_MEMORY
        workers = workers_of_a_process() if self.workers is None else self.workers
        return ImageData(
            divided.train,
            divided.validation,
            class_names=images.class_names,
            image_size=(self.preprocessing.height, self.preprocessing.width),
            channels=self.preprocessing.channels,
            augmentation=self.augmentation,
            workers=0 if in_memory else workers,
            held_back=divided.how,
            left_out=(*images.left_out, *found.left_out),
            unreadable=len(images.left_out),
            notes=(*found.notes, *images.notes, *divided.notes),
        )


def workers_of_a_process() -> int:
    """`DataLoader` workers of a process that trains: one per core, shared among the machine's processes, at most 8."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(max(processors() // processes, 1), MOST_WORKERS)
