"""Colours of 16 bits a channel. PIL has no mode for them and decodes the upper 8 bits alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

_RAW = re.compile(r"(LA|RGB|RGBA);16([BLN])")
"""PIL's names of such samples in a file: their channels, and the order of the two bytes (N is this machine's)."""


def raw_mode(image: Image.Image) -> str:
    """How the samples of an image's file lie, as PIL names it; empty where they are of other kinds than 16 bits."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    arguments = (tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in tiles)
    return next((name for names in arguments for name in names if isinstance(name, str) and ";16" in name), "")


def has_wide_colour(image: Image.Image) -> bool:
    """Whether a file's colours can be read with 16 bits a channel."""
    return bool(_RAW.fullmatch(raw_mode(image)))


def read_wide_colour(opened: Callable[[], Image.Image]) -> NDArray[np.uint16]:
    """Decodes an image of 16 bits a channel, uint16 ``[H, W, C]`` of 2 to 4 channels, upright.

    The file is decoded by the other order of bytes as well, by which PIL takes the lower 8 bits for the upper ones.

    Args:
        opened: Opens the image, which `has_wide_colour`; called twice.
    """
    with opened() as image:
        match = _RAW.fullmatch(raw_mode(image))
        assert match is not None
        channels, order = match.groups()
        if channels == "LA":  # two samples of two bytes are decoded as four channels
            found = _decoded(image, "RGBA")
            upper, lower = (0, 1) if _is_big(order) else (1, 0)
            return _joined(found[..., upper::2], found[..., lower::2])
        high = _decoded(image, f"{channels};16{order}")
    with opened() as image:
        return _joined(high, _decoded(image, f"{channels};16{'L' if _is_big(order) else 'B'}"))


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Numbers of two bytes each."""
    return upper * np.uint16(256) + lower


def _decoded(image: Image.Image, raw: str) -> NDArray[np.uint8]:
    """Decodes an image as if its samples lay as ``raw`` says."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args=_named(tile.args, raw)) for tile in image.tile]
    return np.asarray(ImageOps.exif_transpose(image))


def _named(arguments: Any, raw: str) -> Any:
    return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw


def _is_big(order: str) -> bool:
    """Whether the upper byte comes first."""
    return order == "B" or (order == "N" and sys.byteorder == "big")
