"""Images as a source holds them, before anything is decoded: what every source gives, by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

Content = bytes | Path | NDArray[Any] | None
"""An encoded image, the file that holds it, or its pixels ``[H, W]`` or ``[H, W, C]``; None where there is none."""


@dataclass(frozen=True)
class Original:
    """One image of a source.

    Attributes:
        content: The image.
        where: What messages and lists call it: a path, or a row of a file.
        frame: Number of the frame or page of an encoded image; None for the first, of one that may have more.
    """

    content: Content
    where: str
    frame: int | None = None


class Originals(Protocol):
    """The images of one split of a source."""

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        """Returns the images of rows ``[n]``."""
        ...


@dataclass(frozen=True)
class LeftOut:
    """A file or an image that is not used.

    Attributes:
        split: Of the image; empty where it belongs to none.
        where: A path, or a row of a file.
        reason: Why.
    """

    split: str
    where: str
    reason: str


@dataclass(frozen=True)
class OriginalSplit:
    """The images of one split.

    Attributes:
        originals: The images.
        labels: int64 ``[N]``: the class, or -1 where there is none.
        files: int64 ``[N]``: a number for the file that each image is a frame of; None where each has its own.
    """

    originals: Originals
    labels: NDArray[np.int64]
    files: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class OriginalSet:
    """What a source reads.

    Attributes:
        splits: ``train`` and, where the source has one, ``validation``.
        class_names: Names of the labels 0, 1, ...; empty where there are none.
        notes: What a person should know of the images, a sentence each.
    """

    splits: dict[str, OriginalSplit]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Files:
    """Images of which each is a file."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        """Returns the paths of rows ``[n]``."""
        return [Original(self._paths[row], printable(self._paths[row])) for row in rows.tolist()]


class Frames:
    """Images of which each is a frame or a page of a file, those of ``paths[i]`` being ``counts[i]``."""

    def __init__(self, paths: list[Path], counts: list[int]) -> None:
        self._paths = paths
        self.files = np.repeat(np.arange(len(paths)), counts)
        self._first = np.cumsum([0, *counts])

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        """Returns paths and frames of rows ``[n]``."""
        found = []
        for row, file in zip(rows.tolist(), self.files[rows].tolist(), strict=True):
            frame = row - int(self._first[file])
            where = printable(self._paths[file])
            alone = self._first[file + 1] - self._first[file] == 1
            found.append(Original(self._paths[file], where if alone else f"{where} frame {frame}", frame))
        return found


class Pixels:
    """Images in an array ``[N, H, W]`` or ``[N, H, W, C]``, which may be memory-mapped."""

    def __init__(self, pixels: NDArray[Any], name: str) -> None:
        self._pixels = pixels
        self._name = name

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        """Returns the pixels of rows ``[n]``."""
        return [Original(np.asarray(self._pixels[row]), f"row {row} of {self._name}") for row in rows.tolist()]


def printable(path: Path | str) -> str:
    """A path as text that can be written anywhere, in one line.

    Bytes that are no UTF-8 are shown as ``\\xff``, what ends a line or controls a terminal as ``\\n`` or ``\\x1b``.
    """
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(repr(one)[1:-1] if category(one) in ("Cc", "Zl", "Zp") else one for one in text)
