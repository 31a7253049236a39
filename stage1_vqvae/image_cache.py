"""Images decoded once into memory-mapped arrays, so that every later epoch and run only reads bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import track

from stage1_vqvae.image_preprocessing import Preprocessing
from stage1_vqvae.images import ImageSet, LabelledImages

# Part of every key: raise it when the same source would decode to other pixels.
_VERSION = 1
_CHUNK = 64


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
    """

    folder: Path
    limit_gib: float
    preprocessing: Preprocessing

    def open(self, name: str, identity: dict[str, Any], read: Callable[[], ImageSet]) -> ImageSet:
        """Returns the set from the cache, decoding it first where that has not been done.

        Args:
            name: What progress bars call the source.
            identity: Plain values that change whenever the source's images do.
            read: Opens the source; not called when the set is cached.

        Returns:
            A memory-mapped set, or the one `read` gives where it is larger than the limit.

        Raises:
            ValueError: If the folder cannot be written or has too little room.
        """
        plain = [_VERSION, self.preprocessing.describe(), identity]
        key = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        target = self.folder / f"images-{key[:32]}"
        if target.is_dir() and (cached := _load(target)) and self._fits(cached):
            return cached
        source = read()
        if not self._fits(source):
            return _streamed(source, key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One process decodes while the others wait; the lock goes with its process, also with a killed one.
            with FileLock(f"{target}.lock"):
                if not target.is_dir():
                    self._build(source, name, target)
        except OSError as error:
            raise ValueError(
                f"the image cache {self.folder} cannot be written ({error.strerror or error}): "
                f"set data.cache to a folder with room"
            ) from error
        return _load(target)

    def _bytes(self, images: ImageSet) -> int:
        count = sum(len(split.labels) for split in images.splits.values())
        return count * self.preprocessing.height * self.preprocessing.width * self.preprocessing.channels

    def _fits(self, images: ImageSet) -> bool:
        return self._bytes(images) <= self.limit_gib * 2**30

    def _build(self, source: ImageSet, name: str, target: Path) -> None:
        for abandoned in self.folder.glob(f"{target.name}.partial-*"):  # of killed processes: we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        free = shutil.disk_usage(self.folder).free
        if self._bytes(source) > free:
            raise ValueError(
                f"the image cache {self.folder} has {free / 2**30:.1f} GiB free, {name} decodes to "
                f"{self._bytes(source) / 2**30:.1f}: set data.cache to a folder with room, "
                f"or data.cache_gib=0 to decode while training"
            )
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=self.folder))
        try:
            for split, images in source.splits.items():
                self._decode(images, f"Decoding {name}, {split}", partial / split)
            manifest = {"class_names": source.class_names, "splits": list(source.splits)}
            (partial / "manifest.json").write_text(json.dumps(manifest))
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _decode(self, images: LabelledImages, title: str, folder: Path) -> None:
        count = len(images.labels)
        form = self.preprocessing
        shape = (count, form.height, form.width, form.channels)
        folder.mkdir()
        pixels = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        digests = np.empty((count, 32), dtype=np.uint8)

        def decode(start: int) -> None:
            rows = np.arange(start, min(start + _CHUNK, count))
            decoded = images.reader.read(rows)
            pixels[rows] = decoded
            for row, image in zip(rows, decoded, strict=True):
                digests[row] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), dtype=np.uint8)

        starts = range(0, count, _CHUNK)
        # Threads suffice: PIL decodes and resizes outside Python's lock.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            for _ in track(pool.map(decode, starts), title, total=len(starts)):
                pass
        pixels.flush()
        np.save(folder / "labels.npy", images.labels)
        np.save(folder / "digests.npy", digests)


def _load(target: Path) -> ImageSet:
    manifest = json.loads((target / "manifest.json").read_text())
    splits = {
        split: LabelledImages(
            MemoryMappedImages(target / split / "images.npy"),
            np.load(target / split / "labels.npy", allow_pickle=False),
            np.load(target / split / "digests.npy", allow_pickle=False),
        )
        for split in manifest["splits"]
    }
    return ImageSet(splits, tuple(manifest["class_names"]))


def _streamed(source: ImageSet, key: str) -> ImageSet:
    """Gives each image that is not decoded now a digest of where it is read from."""
    splits = {}
    for split, images in source.splits.items():
        rows = [hashlib.sha256(f"{key} {split} {row}".encode()).digest() for row in range(len(images.labels))]
        digests = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 32)
        splits[split] = replace(images, digests=digests)
    return ImageSet(splits, source.class_names)
