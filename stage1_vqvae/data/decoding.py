"""One image decoded, with what a person should know of it. Every command reads images here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from stage1_vqvae.data.originals import Content, Original, Originals, printable
from stage1_vqvae.data.preprocessing import Preprocessing, is_wide
from stage1_vqvae.data.wide_colour import has_wide_colour, raw_mode, read_wide_colour

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""What is decoded. PIL knows more, among them formats that it hands to other programs."""
SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Endings of file names that these formats have."""
MOST_PIXELS = 2**26
"""An image of more is refused: a file of kilobytes can hold gigabytes of one colour."""


class UnreadableImage(ValueError):
    """An image that cannot be read: ``where`` it is (a path, or a row of a file) and the ``reason``."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} is no readable image ({reason}): replace or remove it")
        self.where = where
        self.reason = reason


class Trait(Enum):
    """What decoding does to some images that their owner may not expect; the value names such images."""

    WIDE = "images of more than 8 bits a channel"
    UPPER_BITS = "images of more than 8 bits a channel in a form of which only the upper 8 can be read"
    FRAMES = "images of several frames or pages, of which the first is taken (data=folder data.frames=all takes each)"


@dataclass(frozen=True)
class Decoded:
    """A decoded image, uint8 ``[H, W, C]``, and its traits."""

    pixels: NDArray[np.uint8]
    traits: frozenset[Trait]


@dataclass(frozen=True)
class Header:
    """What an image says of itself: ``size`` is its height and width in pixels, ``mode`` PIL's name of its channels."""

    size: tuple[int, int]
    mode: str
    format: str


class Decoder:
    """Reads images of a source, decoding each whenever it is asked for.

    Args:
        originals: The source's images.
        preprocessing: What is done to each.
    """

    def __init__(self, originals: Originals, preprocessing: Preprocessing) -> None:
        self._originals = originals
        self.preprocessing = preprocessing

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decodes rows ``[n]`` to uint8 ``[n, H, W, C]``.

        Raises:
            UnreadableImage: If a file is missing or is no image that can be read.
        """
        return np.stack([decode(original, self.preprocessing).pixels for original in self._originals.fetch(rows)])

    def examine(self, rows: NDArray[np.int64]) -> list[Decoded | UnreadableImage]:
        """Decodes rows ``[n]``; returns the error in place of an image that cannot be read."""
        return [_decode_or_error(original, self.preprocessing) for original in self._originals.fetch(rows)]

    def extremes(self, rows: NDArray[np.int64]) -> list[tuple[float, float]]:
        """Returns the least and the largest value of each image of rows ``[n]`` that holds more than 8 bits."""
        values = (wide_values(original) for original in self._originals.fetch(rows))
        return [(float(wide.min()), float(wide.max())) for wide in values if wide is not None]


def read_header(original: Original) -> Header | None:
    """Reads an image's header alone; None where it cannot be read. The size is that of the upright image."""
    content = original.content
    if content is None:
        return None
    if isinstance(content, np.ndarray):
        channels = content.shape[2] if content.ndim == 3 else 1
        return Header(content.shape[:2], f"{content.dtype} × {channels}", "array")
    try:
        with _open(content) as image:
            return Header(upright_size(image), image.mode, image.format or "")
    except Exception:  # said when the image is decoded
        return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image when it is turned as its EXIF data says."""
    turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def read_file(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Reads one image file as uint8 ``[H, W, C]``.

    Raises:
        UnreadableImage: If it is missing or is no image that can be read.
    """
    return decode(Original(path, printable(path)), preprocessing).pixels


def decode(original: Original, preprocessing: Preprocessing) -> Decoded:
    """Decodes one image.

    Raises:
        UnreadableImage: If it is missing or is no image that can be read.
    """
    try:
        with _opened(original) as image:
            traits = _traits(image, original.frame)  # before decoding, which forgets the file's own form
            if isinstance(image, Image.Image) and has_wide_colour(image):
                image = _narrowed(read_wide_colour(partial(_at_frame, original)), preprocessing)
            elif preprocessing.draft and isinstance(image, JpegImageFile):
                side = 2 * max(preprocessing.height, preprocessing.width)  # of both: the image may yet be turned
                image.draft(None, (side, side))
            return Decoded(preprocessing(image), traits)
    # PIL's decoders raise OSError, SyntaxError, struct.error, EOFError, ... on broken files.
    except Exception as error:
        raise UnreadableImage(original.where, _reason(original.content, error)) from error


def _decode_or_error(original: Original, preprocessing: Preprocessing) -> Decoded | UnreadableImage:
    try:
        return decode(original, preprocessing)
    except UnreadableImage as error:
        return error


def wide_values(original: Original) -> NDArray[Any] | None:
    """Returns the finite values of an image of more than 8 bits; None of another, or where it cannot be read."""
    try:
        with _opened(original) as image:
            if Trait.WIDE not in _traits(image, original.frame):
                return None
            if isinstance(image, Image.Image) and has_wide_colour(image):
                values = _colours(read_wide_colour(partial(_at_frame, original)))
            else:
                values = np.asarray(image)
    except Exception:  # said when the image is decoded
        return None
    finite = values[np.isfinite(values)]
    return finite if finite.size else None


@contextmanager
def _opened(original: Original) -> Iterator[Image.Image | NDArray[Any]]:
    """Opens an image whose header promises no more than can be decoded, and whose checksums hold where it has any."""
    content = original.content
    if content is None:
        raise ValueError("there is no image")
    if isinstance(content, np.ndarray):
        yield content
        return
    with _checked(original) as image:
        yield image


def _checked(original: Original) -> Image.Image:
    image = _at_frame(original)
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels, at most {MOST_PIXELS:,} are decoded")
    if image.format != "PNG" or original.frame:
        return image
    with image:
        image.verify()  # decoding does not look at the checksums
    return _at_frame(original)


def _at_frame(original: Original) -> Image.Image:
    """Opens an image of an original that is a file or its bytes."""
    assert isinstance(original.content, bytes | Path)
    image = _open(original.content)
    if original.frame:
        image.seek(original.frame)
    return image


def frames_in(path: Path) -> int:
    """Returns the number of frames or pages of an image file; 1 of one that cannot be read, which decoding says."""
    try:
        with _open(path) as image:
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Exception:
        return 1


def _open(content: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)


def _colours(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The channels ``[H, W, C]`` without that of transparency, which has a range of its own."""
    return values[..., : 1 if values.shape[2] == 2 else 3]


def _narrowed(values: NDArray[np.uint16], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Channels of 16 bits as 8 bits: colours by the range of the set, transparency by that of its type."""
    colours = _colours(values)
    alpha = np.rint(values[..., colours.shape[2] :] / 257).astype(np.uint8)
    return np.concatenate([preprocessing.eight_bits(colours), alpha], axis=2)


def _traits(image: Image.Image | NDArray[Any], frame: int | None) -> frozenset[Trait]:
    if isinstance(image, np.ndarray):
        return frozenset() if image.dtype == np.uint8 else frozenset({Trait.WIDE})
    found = set()
    if is_wide(image) or has_wide_colour(image):
        found.add(Trait.WIDE)
    elif raw_mode(image):
        found.add(Trait.UPPER_BITS)
    # A photograph's second picture (MPO) is a thumbnail or a depth map: nobody misses it.
    if frame is None and image.format != "MPO" and getattr(image, "is_animated", False):
        found.add(Trait.FRAMES)
    return frozenset(found)


def _reason(content: Content, error: Exception) -> str:
    if isinstance(content, Path) and content.is_symlink() and not content.exists():
        return "a link to a file that is not there; of git-annex or DVC: fetch it"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "reading it is not allowed"
    if content == b"" or (isinstance(content, Path) and not content.stat().st_size):
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify its format"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Returns what an error of another library says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)
