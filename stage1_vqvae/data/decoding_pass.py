"""Every image of a split decoded once: what can be read is kept, what cannot is listed."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from stage1_vqvae.data.decoding import Decoder, Trait, UnreadableImage
from stage1_vqvae.data.originals import LeftOut, printable
from stage1_vqvae.processors import processors

_CHUNK = 64
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Pass:
    """What a pass over a split found.

    Attributes:
        left_out: Images that cannot be read, in order.
        traits: Number of images that have each trait.
    """

    left_out: list[LeftOut]
    traits: Counter[Trait]


class RangeNeeded(Exception):
    """There are images of more than 8 bits, and no range of values for them yet."""


class DecodingPass:
    """Decodes a split into a folder.

    Args:
        decoder: Reads the images.
        labels: int64 ``[N]``, of all images.
        folder: Gets ``rows.npy``, ``labels.npy``, ``digests.npy`` and ``moments.npy`` of the readable images: their
            rows in the source, labels, SHA-256 of their pixels, uint8 ``[n, 32]``, and the mean of their pixels in
            [-1, 1] and of the squares of these, float64 ``[n, 2]``.
        keep: Whether it also gets their pixels, ``images.npy``.
    """

    def __init__(self, decoder: Decoder, labels: NDArray[np.int64], folder: Path, keep: bool) -> None:
        self.decoder = decoder
        self.labels = labels
        self.folder = folder
        self.keep = keep

    def run(self, split: str, title: str) -> Pass:
        """Decodes everything.

        Args:
            split: Its name, for the list.
            title: Of the progress bar.

        Raises:
            RangeNeeded: If there are images of more than 8 bits, and the preprocessing has no range for them.
        """
        count = len(self.labels)
        digests, moments = np.empty((count, 32), dtype=np.uint8), np.empty((count, 2))
        faults: dict[int, UnreadableImage] = {}
        traits: list[frozenset[Trait]] = [frozenset()] * count
        pixels = self._memory_map(count, "decoded.npy") if self.keep else None

        def decode(rows: NDArray[np.int64]) -> None:
            for row, image in zip(rows.tolist(), self.decoder.examine(rows), strict=True):
                if isinstance(image, UnreadableImage):
                    faults[row] = image
                    continue
                if Trait.WIDE in image.traits and self.decoder.preprocessing.value_range is None:
                    raise RangeNeeded
                traits[row] = image.traits
                digests[row] = np.frombuffer(hashlib.sha256(image.pixels.tobytes()).digest(), dtype=np.uint8)
                moments[row] = _moments(image.pixels)
                if pixels is not None:
                    pixels[row] = image.pixels

        for _ in in_chunks(count, decode, title):
            pass
        rows = np.array([row for row in range(count) if row not in faults], dtype=np.int64)
        if pixels is not None:
            pixels.flush()
            self._write_pixels(pixels, rows)
        kept: dict[str, NDArray[Any]] = {
            "rows": rows,
            "labels": self.labels[rows],
            "digests": digests[rows],
            "moments": moments[rows],
        }
        for name, values in kept.items():
            np.save(self.folder / f"{name}.npy", values)
        left_out = [LeftOut(split, faults[row].where, faults[row].reason) for row in sorted(faults)]
        return Pass(left_out, Counter(trait for found in traits for trait in found))

    def _memory_map(self, count: int, name: str) -> np.memmap[Any, np.dtype[np.uint8]]:
        form = self.decoder.preprocessing
        shape = (count, form.height, form.width, form.channels)
        return np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=np.uint8, shape=shape)

    def _write_pixels(self, decoded: np.memmap[Any, np.dtype[np.uint8]], rows: NDArray[np.int64]) -> None:
        """Writes the readable images as ``images.npy``; where all are, the decoded file is it."""
        if len(rows) == len(decoded):
            (self.folder / "decoded.npy").rename(self.folder / "images.npy")
            return
        kept = self._memory_map(len(rows), "images.npy")
        for start in range(0, len(rows), _CHUNK):
            kept[start : start + _CHUNK] = decoded[rows[start : start + _CHUNK]]
        kept.flush()
        (self.folder / "decoded.npy").unlink()


def _moments(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean of pixels in [-1, 1], and of their squares."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)  # in single precision exact enough for one row
    mean = rows.sum(axis=1).mean(dtype=np.float64) / rows.shape[1]
    square = np.einsum("ij,ij->i", rows, rows).mean(dtype=np.float64) / rows.shape[1]
    return float(mean / 127.5 - 1), float(square / 127.5**2 - 2 * mean / 127.5 + 1)


def find_extremes(decoder: Decoder, count: int, title: str) -> list[tuple[float, float]]:
    """Returns the least and the largest value of each of ``count`` images that holds more than 8 bits."""
    return [pair for found in in_chunks(count, decoder.extremes, title) for pair in found]


def in_chunks(count: int, work: Callable[[NDArray[np.int64]], _Result], title: str) -> Iterator[_Result]:
    """Works on chunks of the rows 0 to ``count`` in threads, with a progress bar; yields the results in order.

    Threads suffice: PIL decodes and resizes outside of Python's lock.
    """
    chunks = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    pool = ThreadPoolExecutor(min(processors(), 16))
    try:
        yield from track(pool.map(work, chunks), title, total=len(chunks))
    finally:
        pool.shutdown(cancel_futures=True)


def write_left_out(path: Path, left_out: Iterable[LeftOut]) -> None:
    """Writes a list as CSV: split, path (or row of a file), reason."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "path", "reason"))
        writer.writerows([printable(text) for text in astuple(one)] for one in left_out)


def read_left_out(path: Path) -> tuple[LeftOut, ...]:
    """Reads the list that `write_left_out` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(LeftOut(*row) for row in list(csv.reader(file))[1:])
