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

from stage1_vqvae.data.decoding import Decoded, Decoder, Trait, UnreadableImage
from stage1_vqvae.data.originals import LeftOut, printable
from stage1_vqvae.data.shards import shard_path, write_shard
from stage1_vqvae.files import replacing
from stage1_vqvae.processors import processors
from stage1_vqvae.progress import Progress

_CHUNK = 64
SHARD_BYTES = 2**28
"""Size of a shard of decoded pixels: what a killed process loses, at most."""
FACTS = "facts"
"""Name of the files that say what is known of each shard; of no use once the pass is over."""
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
    """Decodes a split into a folder, shard by shard. Shards that are there already are kept.

    Args:
        decoder: Reads the images.
        labels: int64 ``[N]``, of all images.
        folder: Gets ``rows.npy``, ``labels.npy``, ``digests.npy`` and ``moments.npy`` of the readable images: their
            rows in the source, labels, SHA-256 of their pixels, uint8 ``[n, 32]``, and the mean of their pixels in
            [-1, 1] and of the squares of these, float64 ``[n, 2]``; and ``shards.npy``, how many of them each shard
            has.
        keep: Whether it also gets their pixels, in shards.
    """

    def __init__(self, decoder: Decoder, labels: NDArray[np.int64], folder: Path, keep: bool) -> None:
        form = decoder.preprocessing
        self.decoder = decoder
        self.labels = labels
        self.folder = folder
        self.keep = keep
        self._size = max(1, SHARD_BYTES // (form.height * form.width * form.channels))  # images of a shard

    def run(self, split: str, title: str) -> Pass:
        """Decodes what is not decoded yet.

        Args:
            split: Its name, for the list.
            title: Of the progress bar.

        Raises:
            RangeNeeded: If there are images of more than 8 bits, and the preprocessing has no range for them.
        """
        count = len(self.labels)
        shards = [np.arange(start, min(start + self._size, count)) for start in range(0, count, self._size)]
        missing = [number for number in range(len(shards)) if not self._facts(number).exists()]
        done = count - sum(len(shards[number]) for number in missing)
        with Progress(title, count, done, "images") as progress:
            for number in missing:
                self._decode(number, shards[number], progress.advance)
        facts = [_read_facts(self._facts(number)) for number in range(len(shards))]
        traits = sum((Counter(_traits(each)) for each in facts), Counter[Trait]())
        if Trait.WIDE in traits and self.decoder.preprocessing.value_range is None:
            raise RangeNeeded
        rows = _joined(facts, "rows", np.empty(0, dtype=np.int64))
        kept: dict[str, NDArray[Any]] = {
            "rows": rows,
            "labels": self.labels[rows],
            "digests": _joined(facts, "digests", np.empty((0, 32), dtype=np.uint8)),
            "moments": _joined(facts, "moments", np.empty((0, 2))),
            "shards": np.array([len(each["rows"]) for each in facts], dtype=np.int64),
        }
        for name, values in kept.items():
            np.save(self.folder / f"{name}.npy", values)
        faults = [zip(each["where"].tolist(), each["reason"].tolist(), strict=True) for each in facts]
        return Pass([LeftOut(split, *fault) for shard in faults for fault in shard], traits)

    def _facts(self, shard: int) -> Path:
        """What is known of a shard that is done; written after its pixels."""
        return self.folder / f"{FACTS}-{shard:05d}.npz"

    def _decode(self, shard: int, rows: NDArray[np.int64], advance: Callable[[int], None]) -> None:
        """Decodes the images of one shard."""
        found: list[_Examined] = []

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for examined in in_chunks(rows, self._examine, advance):
                found.append(examined.without_pixels())
                if examined.pixels:
                    yield np.stack(examined.pixels)

        if self.keep:
            write_shard(shard_path(self.folder, shard), pixels())
        else:
            for _ in pixels():
                pass
        facts: dict[str, list[Any]] = {
            name: [value for each in found for value in getattr(each, name)]
            for name in ("rows", "digests", "moments", "where", "reason", "traits")
        }
        with replacing(self._facts(shard)) as temporary:
            np.savez(
                temporary,
                rows=np.array(facts["rows"], dtype=np.int64),
                digests=np.array(facts["digests"], dtype=np.uint8).reshape(-1, 32),
                moments=np.array(facts["moments"], dtype=np.float64).reshape(-1, 2),
                where=np.array(facts["where"], dtype=np.str_),
                reason=np.array(facts["reason"], dtype=np.str_),
                traits=np.array(facts["traits"], dtype=np.str_),
            )

    def _examine(self, rows: NDArray[np.int64]) -> _Examined:
        """Decodes some rows.

        Raises:
            RangeNeeded: If one is an image of more than 8 bits, and the preprocessing has no range for it.
        """
        found = _Examined([], [], [], [], [], [], [])
        for row, image in zip(rows.tolist(), self.decoder.examine(rows), strict=True):
            wide = isinstance(image, Decoded) and Trait.WIDE in image.traits
            if wide and self.decoder.preprocessing.value_range is None:
                raise RangeNeeded
            found.add(row, image)
        return found


@dataclass(frozen=True)
class _Examined:
    """What some rows hold: their readable images, and why the others are not."""

    rows: list[int]
    pixels: list[NDArray[np.uint8]]
    digests: list[NDArray[np.uint8]]
    moments: list[tuple[float, float]]
    traits: list[str]
    where: list[str]
    reason: list[str]

    def add(self, row: int, image: Decoded | UnreadableImage) -> None:
        if isinstance(image, UnreadableImage):
            self.where.append(image.where)
            self.reason.append(image.reason)
            return
        self.rows.append(row)
        self.pixels.append(image.pixels)
        self.digests.append(np.frombuffer(hashlib.sha256(image.pixels.tobytes()).digest(), dtype=np.uint8))
        self.moments.append(_moments(image.pixels))
        self.traits.extend(trait.name for trait in image.traits)

    def without_pixels(self) -> _Examined:
        return _Examined(self.rows, [], self.digests, self.moments, self.traits, self.where, self.reason)


def _read_facts(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as facts:
        return dict(facts)


def _traits(facts: dict[str, NDArray[Any]]) -> Iterator[Trait]:
    return (Trait[name] for name in facts["traits"].tolist())


def _joined(facts: list[dict[str, NDArray[Any]]], name: str, nothing: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([nothing, *(each[name] for each in facts)])


def _moments(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean of pixels in [-1, 1], and of their squares."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)  # in single precision exact enough for one row
    mean = rows.sum(axis=1).mean(dtype=np.float64) / rows.shape[1]
    square = np.einsum("ij,ij->i", rows, rows).mean(dtype=np.float64) / rows.shape[1]
    return float(mean / 127.5 - 1), float(square / 127.5**2 - 2 * mean / 127.5 + 1)


def find_extremes(decoder: Decoder, count: int, title: str) -> list[tuple[float, float]]:
    """Returns the least and the largest value of each of ``count`` images that holds more than 8 bits."""
    return [pair for extremes in with_progress(np.arange(count), decoder.extremes, title) for pair in extremes]


def with_progress(
    rows: NDArray[np.int64], work: Callable[[NDArray[np.int64]], _Result], title: str
) -> Iterator[_Result]:
    """Works on chunks of rows in threads, with a progress bar; yields the results in order."""
    with Progress(title, len(rows), unit="images") as progress:
        yield from in_chunks(rows, work, progress.advance)


def in_chunks(
    rows: NDArray[np.int64], work: Callable[[NDArray[np.int64]], _Result], advance: Callable[[int], None]
) -> Iterator[_Result]:
    """Works on chunks of rows in threads; yields the results in order, and says how many rows each was of.

    Threads suffice: PIL decodes and resizes outside of Python's lock.
    """
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    pool = ThreadPoolExecutor(min(processors(), 16))
    try:
        for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
            yield result
            advance(len(chunk))
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
