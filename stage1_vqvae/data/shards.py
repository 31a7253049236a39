"""Decoded pixels in shards: files of uint8 images one after another, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.files import replacing


def write_shard(path: Path, images: Iterable[NDArray[np.uint8]]) -> None:
    """Writes batches of images, uint8 ``[n, H, W, C]``, one after another."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for batch in images:
            file.write(np.ascontiguousarray(batch).data)


def shard_path(folder: Path, shard: int) -> Path:
    """Where a folder keeps the pixels of a shard."""
    return folder / f"images-{shard:05d}.u8"


class MemoryMappedImages:
    """Reads images of shards, which are opened on first use in each process.

    Args:
        folder: Holds the shards.
        counts: Number of images of each, int64 ``[shards]``.
        shape: ``(H, W, C)`` of an image.
    """

    def __init__(self, folder: Path, counts: NDArray[np.int64], shape: tuple[int, int, int]) -> None:
        self._folder = folder
        self._ends = np.cumsum(counts)
        self._shape = shape
        self._maps: dict[int, NDArray[np.uint8]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return int(self._ends[-1]) * int(np.prod(self._shape)) if len(self._ends) else 0

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns a copy of the images of rows ``[n]``, uint8 ``[n, H, W, C]``."""
        images = np.empty((len(rows), *self._shape), dtype=np.uint8)
        shards = np.searchsorted(self._ends, rows, side="right")
        for shard in np.unique(shards).tolist():
            here = shards == shard
            pixels = self._map(shard)
            images[here] = pixels[rows[here] - (self._ends[shard] - len(pixels))]
        return images

    def _map(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            count = int(self._ends[shard] - (self._ends[shard - 1] if shard else 0))
            path = shard_path(self._folder, shard)
            self._maps[shard] = np.memmap(path, np.uint8, mode="r", shape=(count, *self._shape))
        return self._maps[shard]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as all of its pixels; a worker opens its own.
        return {**self.__dict__, "_maps": {}}
