"""Images decoded once into memory-mapped arrays, so that every later epoch and run only reads bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from stage1_vqvae.data.dataset import ImageReader, ImageSet, LabelledImages
from stage1_vqvae.data.decoding import Decoder, Trait
from stage1_vqvae.data.decoding_pass import (
    FACTS,
    DecodingPass,
    RangeNeeded,
    find_extremes,
    read_left_out,
    write_left_out,
)
from stage1_vqvae.data.originals import LeftOut, OriginalSet
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.data.shards import MemoryMappedImages
from stage1_vqvae.data.value_range import describe_range, range_of

# Part of every key: raise it when the same source would decode to other pixels, or a folder holds other files.
_VERSION = 5
QUARANTINE = "quarantine.csv"


def default_cache_folder() -> Path:
    """Returns where caches go unless told otherwise: `$XDG_CACHE_HOME` or `~/.cache`, then `vqvae-prior`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqvae-prior"


class SelectedImages:
    """Reads some rows of another reader, as rows 0, 1, ... of its own."""

    def __init__(self, reader: ImageReader, rows: NDArray[np.int64]) -> None:
        self._reader = reader
        self._rows = rows

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the images of rows ``[n]``, uint8 ``[n, H, W, C]``."""
        return self._reader.read(self._rows[rows])


@dataclass(frozen=True)
class ImageCache:
    """Decodes sets of images into a folder, one subfolder for each source and preprocessing.

    A subfolder is written beside and renamed into place, so one that exists is whole. Decoding that was killed goes on
    with the shards that are missing.

    Args:
        folder: Where caches are kept; made when missing.
        limit_gib: Sets that decode to more than this many GiB are not cached; None caches all.
        preprocessing: Size and channels of the decoded images.
        max_bad: Largest share of images that may be unreadable and are left out.
    """

    folder: Path
    limit_gib: float | None
    preprocessing: Preprocessing
    max_bad: float = 0.0

    def open(self, name: str, identity: dict[str, Any], read: Callable[[], OriginalSet]) -> ImageSet:
        """Returns the set from the cache, decoding it first where that has not been done.

        Args:
            name: What progress bars call the source.
            identity: Plain values that change whenever the source's images do.
            read: Opens the source; not called when the set is cached.

        Returns:
            A memory-mapped set, or one that decodes while it is read where it is larger than the limit. That one was
            decoded once as well: what cannot be read is known before anything is made of the rest.

        Raises:
            ValueError: If the folder cannot be written or has too little room, or too many images cannot be read.
        """
        plain = [_VERSION, self.preprocessing.describe(), identity]
        key = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        target = self.folder / f"images-{key[:32]}"
        if target.is_dir() and (cached := self._load(target)) and self._fits(_counts(cached)):
            return self._accept(cached, name, target)
        source = read()
        fits = self._fits({split: len(images.labels) for split, images in source.splits.items()})
        target = target if fits else target.with_name(f"{target.name}-checked")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One process decodes while the others wait; the lock goes with its process, also with a killed one.
            with FileLock(f"{target}.lock"):
                if not target.is_dir():
                    self._build(source, name, target, keep=fits)
        except OSError as error:
            raise ValueError(
                f"the image cache {self.folder} cannot be written ({error.strerror or error}): "
                f"set data.cache to a folder with room"
            ) from error
        return self._accept(self._load(target, None if fits else source), name, target)

    def _accept(self, images: ImageSet, name: str, target: Path) -> ImageSet:
        """Returns the set, unless too much of it is left out."""
        bad, kept = images.left_out, _counts(images)
        total = len(bad) + sum(kept.values())
        if len(bad) > self.max_bad * total or not all(kept.values()):
            raise ValueError(
                f"{len(bad)} of {total} images of {name} cannot be read, data.max_bad={self.max_bad} allows "
                f"{int(self.max_bad * total)} (the first: {bad[0].where}, {bad[0].reason}): replace or remove those "
                f"listed in {target / QUARANTINE}" + (", or raise data.max_bad" if all(kept.values()) else "")
            )
        return images

    def _bytes(self, counts: dict[str, int]) -> int:
        form = self.preprocessing
        return sum(counts.values()) * form.height * form.width * form.channels

    def _fits(self, counts: dict[str, int]) -> bool:
        return self.limit_gib is None or self._bytes(counts) <= self.limit_gib * 2**30

    def _build(self, source: OriginalSet, name: str, target: Path, keep: bool) -> None:
        partial = target.with_name(f"{target.name}.partial")  # ours alone: we hold the lock
        partial.mkdir(exist_ok=True)
        needed = self._bytes({split: len(images.labels) for split, images in source.splits.items()})
        needed -= sum(path.stat().st_size for path in partial.rglob("*.u8"))
        free = shutil.disk_usage(self.folder).free
        if keep and needed > free:
            raise ValueError(
                f"the image cache {self.folder} has {free / 2**30:.1f} GiB free, {name} needs "
                f"{needed / 2**30:.1f}: set data.cache to a folder with room, "
                f"or data.cache_gib=0 to decode while training"
            )
        try:
            if self._begins_wide(source):
                raise RangeNeeded
            self._decode(source, name, partial, keep, self.preprocessing)
        except RangeNeeded:
            self._decode_wide(source, name, partial, keep)
        for facts in partial.rglob(f"{FACTS}-*"):
            facts.unlink()
        partial.rename(target)

    def _begins_wide(self, source: OriginalSet) -> bool:
        """Whether the first images hold more than 8 bits, and there is no range of values for them yet."""
        if self.preprocessing.value_range is not None:
            return False
        first = source.splits["train"]
        return bool(Decoder(first.originals, self.preprocessing).extremes(np.arange(min(8, len(first.labels)))))

    def _decode_wide(self, source: OriginalSet, name: str, folder: Path, keep: bool) -> None:
        """Decodes a set with images of more than 8 bits over the range of values that is found in it."""
        extremes = [
            pair
            for split, images in source.splits.items()
            for pair in find_extremes(
                Decoder(images.originals, self.preprocessing), len(images.labels), f"Range of {name}, {split}"
            )
        ]
        found = range_of(extremes)
        preprocessing = replace(self.preprocessing, value_range=found)
        self._decode(source, name, folder, keep, preprocessing, describe_range(extremes, found))

    def _decode(
        self, source: OriginalSet, name: str, folder: Path, keep: bool, preprocessing: Preprocessing, wide: str = ""
    ) -> None:
        """Decodes every split into a folder of its own, and writes what is known of them.

        Args:
            source: The images.
            name: What progress bars call them.
            folder: Where to.
            keep: Whether to write the pixels.
            preprocessing: What is done to each image.
            wide: What becomes of values of more than 8 bits, for the notes.
        """
        bad: list[LeftOut] = []
        traits: Counter[Trait] = Counter()
        for split, images in source.splits.items():
            (folder / split).mkdir(exist_ok=True)
            decoder = Decoder(images.originals, preprocessing)
            title = f"{'Decoding' if keep else 'Checking'} {name}, {split}"
            found = DecodingPass(decoder, images.labels, folder / split, keep).run(split, title)
            if images.files is not None:
                np.save(folder / split / "files.npy", images.files[np.load(folder / split / "rows.npy")])
            bad += found.left_out
            traits += found.traits
        write_left_out(folder / QUARANTINE, bad)
        manifest = {
            "class_names": source.class_names,
            "splits": list(source.splits),
            "range": preprocessing.value_range,
            "notes": [*source.notes, *_notes_of(traits, wide or "values outside of data.range are clipped")],
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def _load(self, target: Path, source: OriginalSet | None = None) -> ImageSet:
        """The set of a folder; its images are decoded from ``source`` where the folder does not hold them."""
        manifest = json.loads((target / "manifest.json").read_text())
        value_range = tuple(manifest["range"]) if manifest["range"] else None
        preprocessing = replace(self.preprocessing, value_range=value_range)
        splits = {}
        for split in manifest["splits"]:
            rows, labels, digests, moments, shards = (
                np.load(target / split / f"{name}.npy", allow_pickle=False)
                for name in ("rows", "labels", "digests", "moments", "shards")
            )
            shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
            reader: ImageReader = MemoryMappedImages(target / split, shards, shape)
            if source is not None:
                reader = SelectedImages(Decoder(source.splits[split].originals, preprocessing), rows)
            files = target / split / "files.npy"
            numbers = np.load(files, allow_pickle=False) if files.exists() else None
            splits[split] = LabelledImages(reader, labels, digests, moments, numbers)
        left_out, notes = read_left_out(target / QUARANTINE), tuple(manifest["notes"])
        return ImageSet(splits, tuple(manifest["class_names"]), value_range, left_out, notes)


def _counts(images: ImageSet) -> dict[str, int]:
    return {split: len(kept.labels) for split, kept in images.splits.items()}


def _notes_of(traits: Counter[Trait], wide: str) -> list[str]:
    """What a person should know of the images, a sentence for each trait that some have."""
    said = {trait: f"{trait.value}: {count:,}" for trait, count in traits.items()}
    if Trait.WIDE in said:
        said[Trait.WIDE] += f"; {wide}"
    return [said[trait] for trait in Trait if trait in said]
