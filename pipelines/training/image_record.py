"""Which images a run was made of: a few bytes of each, so that what is new and what is gone can be said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.run_folder import RunFolder
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import replacing

SPLITS = ("train", "validation")

FIELDS = ("numbers", "labels", "held_out")
"""Arrays of a record."""

MOST_CLASSES = 4
"""Classes that are counted by name; the others are counted together."""

STEP = np.uint64(0x9E3779B97F4A7C15)
"""Added to the number of an image for each exact copy before it, so that copies are counted."""


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """The images of both splits, those of training first.

    Attributes:
        numbers: uint64 ``[N]``, the first bytes of each image's digest.
        labels: int32 ``[N]``, class index, -1 where there is none.
        held_out: Whether an image is one of validation, bool ``[N]``.
        class_names: Names of the classes.
    """

    numbers: NDArray[np.uint64]
    labels: NDArray[np.int32]
    held_out: NDArray[np.bool_]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, images: ImageData) -> ImageRecord:
        """That of opened images."""
        splits = (images.train, images.validation)
        digests = np.concatenate([split.digests for split in splits])
        return cls(
            np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0],
            np.concatenate([split.labels.numpy() for split in splits]).astype(np.int32),
            np.repeat([False, True], [len(split) for split in splits]),
            images.class_names,
        )

    @classmethod
    def read(cls, path: Path) -> ImageRecord | None:
        """That of a file; None where there is none, as in runs of earlier versions, or it is damaged."""
        try:
            with np.load(path) as kept:
                arrays = {name: kept[name] for name in FIELDS}
                return cls(**arrays, class_names=tuple(map(str, kept["class_names"])))
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def write(self, path: Path) -> None:
        """Keep the record, about 13 bytes an image; after a kill it is whole or absent."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            arrays = {name: getattr(self, name) for name in FIELDS}
            np.savez(file, **arrays, class_names=np.array(self.class_names, dtype=np.str_))

    def keys(self) -> NDArray[np.uint64]:
        """A number for each image, uint64 ``[N]``, another one for each exact copy."""
        order = np.argsort(self.numbers, kind="stable")
        placed = self.numbers[order]
        begins = np.r_[True, placed[1:] != placed[:-1]][: len(placed)]
        begun = np.maximum.accumulate(np.where(begins, np.arange(len(placed)), 0))
        copies = np.empty(len(placed), np.uint64)
        copies[order] = np.arange(len(placed)) - begun
        return self.numbers + copies * STEP  # wraps around

    def classes(self) -> NDArray[np.str_]:
        """Name of each image's class, empty where it has none."""
        return np.array([*self.class_names, ""], dtype=np.str_)[self.labels]


def changes(old: ImageRecord, new: ImageRecord) -> list[str]:
    """What became of the images of each split, as ``train: 3 new (cat 2, dog 1), 1 gone (dog 1)``.

    An image whose content changed is a new one, and the one before is gone.
    """
    keys, new_keys = old.keys(), new.keys()
    classes, new_classes = old.classes(), new.classes()
    where = dict(zip(keys.tolist(), range(len(keys)), strict=True))
    before = np.array([where.get(key, -1) for key in new_keys.tolist()], dtype=np.int64)  # [N]: its place in the old
    gone = ~np.isin(keys, new_keys)
    known = before >= 0
    came = known & (old.held_out[before] != new.held_out) if len(keys) else known
    other = known & ~came & (classes[before] != new_classes) if len(keys) else known
    found = []
    for split, held_out in zip(SPLITS, (False, True), strict=True):
        here = new.held_out == held_out
        parts = [
            counted("new", new_classes[here & ~known]),
            counted("gone", classes[gone & (old.held_out == held_out)]),
            counted(f"from {SPLITS[not held_out]}", new_classes[here & came]),
            counted("of another class", new_classes[here & other]),
        ]
        if any(parts):
            found.append(f"{split}: {', '.join(filter(None, parts))}")
    return found or ["the same ones in another order, as after files were renamed"]


def counted(what: str, classes: NDArray[np.str_]) -> str:
    """A number of images, and of each class among them, the most frequent first; empty where there is none."""
    if len(classes) == 0:
        return ""
    names, counts = np.unique(classes[classes != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{names[one]} {counts[one]:,}" for one in order[:MOST_CLASSES]]
    if len(order) > MOST_CLASSES:
        shown.append(f"others {counts[order[MOST_CLASSES:]].sum():,}")
    return f"{len(classes):,} {what}" + (f" ({', '.join(shown)})" if shown else "")


def changes_since(run: RunFolder, images: ImageData) -> list[str]:
    """How images differ from those of a run's record, split by split; empty where there is no record."""
    old = ImageRecord.read(run.images)
    return [] if old is None else changes(old, ImageRecord.of(images))


def keep_record(run: RunFolder, images: ImageData) -> None:
    """Keep which images a run is made of."""
    new, old = ImageRecord.of(images), ImageRecord.read(run.images)
    same = old is not None and old.class_names == new.class_names
    if not (same and all(np.array_equal(getattr(old, name), getattr(new, name)) for name in FIELDS)):
        new.write(run.images)
