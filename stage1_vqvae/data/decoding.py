"""Every image of a split decoded once: what can be read is kept, what cannot is listed."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from stage1_vqvae.data.dataset import ImageReader, LabelledImages, Quarantined, UnreadableImage
from stage1_vqvae.data.preprocessing import Preprocessing

_CHUNK = 64


class KeptImages:
    """Reads some rows of another reader, as rows 0, 1, ... of its own."""

    def __init__(self, reader: ImageReader, rows: NDArray[np.int64]) -> None:
        self._reader = reader
        self._rows = rows

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the images of rows ``[n]``, uint8 ``[n, H, W, C]``."""
        return self._reader.read(self._rows[rows])


class Decoding:
    """Decodes a split into a folder.

    Args:
        images: The split.
        preprocessing: Size and channels of what its reader gives.
        folder: Gets ``rows.npy``, ``labels.npy`` and ``digests.npy`` of the readable images.
        keep: Whether it also gets their pixels, ``images.npy``.
    """

    def __init__(self, images: LabelledImages, preprocessing: Preprocessing, folder: Path, keep: bool) -> None:
        self.images = images
        self.folder = folder
        self.keep = keep
        self.form = (preprocessing.height, preprocessing.width, preprocessing.channels)

    def run(self, split: str, title: str) -> list[Quarantined]:
        """Decode everything.

        Args:
            split: Its name, for the list.
            title: Of the progress bar.

        Returns:
            What cannot be read, in order.
        """
        count = len(self.images.labels)
        digests = np.empty((count, 32), dtype=np.uint8)
        faults: dict[int, UnreadableImage] = {}
        pixels = self._memory_map(count, "decoded.npy") if self.keep else None

        def decode(start: int) -> None:
            for row, image in self._readable(np.arange(start, min(start + _CHUNK, count)), faults):
                digests[row] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), dtype=np.uint8)
                if pixels is not None:
                    pixels[row] = image

        starts = range(0, count, _CHUNK)
        # Threads suffice: PIL decodes and resizes outside Python's lock.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            for _ in track(pool.map(decode, starts), title, total=len(starts)):
                pass
        rows = np.array([row for row in range(count) if row not in faults], dtype=np.int64)
        if pixels is not None:
            pixels.flush()
            self._write_pixels(pixels, rows)
        np.save(self.folder / "rows.npy", rows)
        np.save(self.folder / "labels.npy", self.images.labels[rows])
        np.save(self.folder / "digests.npy", digests[rows])
        return [Quarantined(split, faults[row].where, faults[row].reason) for row in sorted(faults)]

    def _readable(
        self, rows: NDArray[np.int64], faults: dict[int, UnreadableImage]
    ) -> Iterable[tuple[int, NDArray[np.uint8]]]:
        """Rows and their images; where one of them cannot be read they are read one by one."""
        try:
            yield from zip(rows.tolist(), self.images.reader.read(rows), strict=True)
        except UnreadableImage as error:
            if len(rows) == 1:
                faults[int(rows[0])] = error
                return
            for row in rows:
                yield from self._readable(row[None], faults)

    def _memory_map(self, count: int, name: str) -> np.memmap[Any, np.dtype[np.uint8]]:
        return np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=np.uint8, shape=(count, *self.form))

    def _write_pixels(self, decoded: np.memmap[Any, np.dtype[np.uint8]], rows: NDArray[np.int64]) -> None:
        """Leave the readable images as ``images.npy``; where all are, the decoded file is it."""
        if len(rows) == len(decoded):
            (self.folder / "decoded.npy").rename(self.folder / "images.npy")
            return
        kept = self._memory_map(len(rows), "images.npy")
        for start in range(0, len(rows), _CHUNK):
            kept[start : start + _CHUNK] = decoded[rows[start : start + _CHUNK]]
        kept.flush()
        (self.folder / "decoded.npy").unlink()


def write_quarantine(path: Path, bad: Iterable[Quarantined]) -> None:
    """Write the list as CSV: split, path (or row of a file), reason."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "path", "reason"))
        writer.writerows(map(astuple, bad))


def read_quarantine(path: Path) -> tuple[Quarantined, ...]:
    """The list that :func:`write_quarantine` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(Quarantined(*row) for row in list(csv.reader(file))[1:])
