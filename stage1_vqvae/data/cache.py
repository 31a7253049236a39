"""Images decoded once into memory-mapped arrays, so that every later epoch and run only reads bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from stage1_vqvae.data.dataset import ImageSet, LabelledImages, Quarantined
from stage1_vqvae.data.decoding import Decoding, KeptImages, read_quarantine, write_quarantine
from stage1_vqvae.data.preprocessing import Preprocessing

# Part of every key: raise it when the same source would decode to other pixels.
_VERSION = 2
QUARANTINE = "quarantine.csv"


def default_cache_folder() -> Path:
    """Returns where caches go unless told otherwise: `$XDG_CACHE_HOME` or `~/.cache`, then `vqvae-prior`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqvae-prior"


class MemoryMappedImages:
    """Reads images from a `.npy` file of uint8 ``[N, H, W, C]``, opened on first use in each process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._array: NDArray[np.uint8] | None = None

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns a copy of the images of rows ``[n]``, uint8 ``[n, H, W, C]``."""
        if self._array is None:
            self._array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return np.asarray(self._array[rows])

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as all of its pixels; a worker opens its own.
        return {"_path": self._path, "_array": None}


@dataclass(frozen=True)
class ImageCache:
    """Decodes sets of images into a folder, one subfolder for each source and preprocessing.

    A subfolder is written beside and renamed into place, so one that exists is whole.

    Args:
        folder: Where caches are kept; made when missing.
        limit_gib: Sets that decode to more than this many GiB are not cached.
        preprocessing: Size and channels of the decoded images.
        max_bad: Largest share of images that may be unreadable and are left out.
    """

    folder: Path
    limit_gib: float
    preprocessing: Preprocessing
    max_bad: float = 0.0

    def open(self, name: str, identity: dict[str, Any], read: Callable[[], ImageSet]) -> ImageSet:
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
        if target.is_dir() and (cached := _load(target)) and self._fits(cached):
            return self._accept(cached, name, target)
        source = read()
        fits = self._fits(source)
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
        return self._accept(_load(target, None if fits else source), name, target)

    def _accept(self, images: ImageSet, name: str, target: Path) -> ImageSet:
        """The set, unless too much of it is left out."""
        bad = images.quarantine
        total = len(bad) + sum(len(split.labels) for split in images.splits.values())
        empty = [split for split, kept in images.splits.items() if not len(kept.labels)]
        if len(bad) > self.max_bad * total or empty:
            raise ValueError(
                f"{len(bad)} of {total} images of {name} cannot be read, data.max_bad={self.max_bad} allows "
                f"{int(self.max_bad * total)} (the first: {bad[0].where}, {bad[0].reason}): replace or remove those "
                f"listed in {target / QUARANTINE}" + ("" if empty else ", or raise data.max_bad")
            )
        return images

    def _bytes(self, images: ImageSet) -> int:
        count = sum(len(split.labels) for split in images.splits.values())
        return count * self.preprocessing.height * self.preprocessing.width * self.preprocessing.channels

    def _fits(self, images: ImageSet) -> bool:
        return self._bytes(images) <= self.limit_gib * 2**30

    def _build(self, source: ImageSet, name: str, target: Path, keep: bool) -> None:
        for abandoned in self.folder.glob(f"{target.name}.partial-*"):  # of killed processes: we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        free = shutil.disk_usage(self.folder).free
        if keep and self._bytes(source) > free:
            raise ValueError(
                f"the image cache {self.folder} has {free / 2**30:.1f} GiB free, {name} decodes to "
                f"{self._bytes(source) / 2**30:.1f}: set data.cache to a folder with room, "
                f"or data.cache_gib=0 to decode while training"
            )
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=self.folder))
        try:
            bad: list[Quarantined] = []
            for split, images in source.splits.items():
                (partial / split).mkdir()
                title = f"{'Decoding' if keep else 'Checking'} {name}, {split}"
                decoding = Decoding(images, self.preprocessing, partial / split, keep)
                bad += decoding.run(split, title)
            write_quarantine(partial / QUARANTINE, bad)
            manifest = {"class_names": source.class_names, "splits": list(source.splits)}
            (partial / "manifest.json").write_text(json.dumps(manifest))
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _load(target: Path, source: ImageSet | None = None) -> ImageSet:
    """The set of a folder; its images are read from a source where the folder holds what is known of them alone."""
    manifest = json.loads((target / "manifest.json").read_text())
    splits = {}
    for split in manifest["splits"]:
        folder = target / split
        rows, labels, digests = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("rows", "labels", "digests")
        )
        reader = source.splits[split].reader if source else MemoryMappedImages(folder / "images.npy")
        splits[split] = LabelledImages(KeptImages(reader, rows) if source else reader, labels, digests)
    return ImageSet(splits, tuple(manifest["class_names"]), read_quarantine(target / QUARANTINE))
