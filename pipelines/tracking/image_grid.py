"""Grids of images, and PNG files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image

from stage1_vqvae.data.preprocessing import MODES
from stage1_vqvae.files import replacing

MIN_WIDTH = 640
"""Width of a grid in pixels at least: smaller ones are enlarged by a whole factor, without smoothing."""


def grid(images: NDArray[np.uint8], columns: int, gap: int = 2, ground: int = 255) -> Image.Image:
    """One image of uint8 ``images [N, H, W, C]`` in rows of ``columns``.

    Args:
        images: Of one channel (grey), two (grey with alpha), three (RGB) or four (RGBA).
        columns: Images in a row.
        gap: Pixels between images.
        ground: Value of every channel between images: 255 is white, 0 see-through where there is alpha.
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * columns, height + gap, width + gap, channels), ground, np.uint8)
    sheet[:n, :height, :width] = images
    sheet = rearrange(sheet, "(r c) h w ch -> (r h) (c w) ch", c=columns)
    sheet = np.pad(sheet, ((gap, 0), (gap, 0), (0, 0)), constant_values=ground)
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet, MODES[channels])
    zoom = max(1, round(MIN_WIDTH / picture.width))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG file; after a kill it is whole or absent."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def strip_of_pairs(images: NDArray[np.uint8], partners: NDArray[np.uint8]) -> Image.Image:
    """Images above their reconstructions, or other partners, both uint8 ``[N, H, W, C]``, in full rows of up to 16."""
    columns = min(len(images), 16)
    shown = len(images) // columns * columns
    both = np.stack([images[:shown], partners[:shown]])
    return grid(rearrange(both, "two (r c) ... -> (r two c) ...", c=columns), columns)
