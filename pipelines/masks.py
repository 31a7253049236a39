"""Which codes of an image are kept, from which of its pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from pipelines.inputs.codes import tensor_of
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.decoding import UnreadableImage, read_file
from stage1_vqvae.data.preprocessing import Preprocessing

HALVES = ("top", "bottom", "left", "right")


def pixel_mask(keep: str, box: Sequence[int] | None, image_size: tuple[int, int]) -> Tensor:
    """Pixels that are kept, bool ``[H, W]``.

    Args:
        keep: A half (``top``, ``bottom``, ``left``, ``right``), ``box``, or a mask's file: an image of any size, fitted
            to ``image_size`` as images are, whose white is kept.
        box: For ``box``: top, left, height and width in pixels.
        image_size: ``(H, W)``.

    Raises:
        ValueError: If there is no such file, or the box lies outside of the image.
    """
    if (keep == "box") != (box is not None):
        raise ValueError(f"keep=box goes with box=[top,left,height,width] in pixels, got keep={keep} and box={box}")
    if box is not None:
        return _box(box, image_size)
    if keep in HALVES:
        height, width = image_size
        top, left = (height - height // 2) * (keep == "bottom"), (width - width // 2) * (keep == "right")
        tall, wide = (height // 2, width) if keep in ("top", "bottom") else (height, width // 2)
        return _box((top, left, tall, wide), image_size)
    return _from_file(Path(keep), image_size)


def _box(box: Sequence[int], image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    whole = len(box) == 4 and all(isinstance(side, int) for side in box)
    if not whole or min(box) < 0 or not 1 <= box[2] <= height - box[0] or not 1 <= box[3] <= width - box[1]:
        raise ValueError(f"box is [top,left,height,width] inside of {height}×{width} pixels, got {list(box)}")
    top, left, tall, wide = box
    mask = torch.zeros(image_size, dtype=torch.bool)
    mask[top : top + tall, left : left + wide] = True
    return mask


def _from_file(path: Path, image_size: tuple[int, int]) -> Tensor:
    if not path.is_file():
        raise ValueError(f"keep={path}: {', '.join(HALVES)}, box, or a mask's file expected, and there is no such file")
    try:
        levels = read_file(path, Preprocessing(*image_size, channels=1))[..., 0]
    except UnreadableImage as error:
        reason = error.reason
        raise ValueError(f"keep={path} is no readable image ({reason}): give a mask whose white is kept") from error
    return torch.from_numpy(levels >= 128)


def held_mask(keep: Any, layout: CodeLayout, image_size: tuple[int, int], padding: int = 0) -> Tensor:
    """Codes that are held, bool ``[T]`` or ``[B, T]``.

    Args:
        keep: A half or a mask's file, as for :func:`pixel_mask`; pixels bool ``[H, W]``; or codes bool ``[T]`` or
            ``[B, T]``.
        layout, padding: As for :func:`code_mask`.
        image_size: ``(H, W)``.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(keep, str | Path):
        return code_mask(pixel_mask(str(keep), None, image_size), layout, padding)
    found = tensor_of(keep, f"keep_mask: booleans [B, {layout.length}] or [{layout.length}] expected")
    if found.dtype == torch.bool and found.shape == image_size and image_size[1] != layout.length:
        return code_mask(found, layout, padding)
    return found


def code_mask(pixels: Tensor, layout: CodeLayout, padding: int = 0) -> Tensor:
    """Codes whose pixels are all kept, bool ``[T]``.

    Args:
        pixels: bool ``[H, W]``.
        layout: Grids of two axes, each a division of the image into equal cells.
        padding: Pixels by which the tokenizer extends every border; they are kept where the pixel they repeat is.
    """
    height, width = pixels.shape
    rows = torch.arange(-padding, height + padding).clamp(0, height - 1)
    columns = torch.arange(-padding, width + padding).clamp(0, width - 1)
    padded = pixels[rows][:, columns]
    cells = [rearrange(padded, "(h y) (w x) -> h w (y x)", h=h, w=w).all(-1)[None] for h, w in layout.grids]
    return layout.join(cells)[0]


def kept_pixels(kept: Tensor, layout: CodeLayout, image_size: tuple[int, int], padding: int = 0) -> Tensor:
    """Pixels bool ``[H, W]`` of which every grid's code is kept: what :func:`code_mask` leaves of a mask.

    Args:
        kept: bool ``[T]``.
        layout: As for :func:`code_mask`.
        image_size: ``(H, W)``.
        padding: As for :func:`code_mask`.
    """
    height, width = image_size
    pixels = torch.ones(image_size, dtype=torch.bool)
    for cells in layout.split(kept[None]):
        tall, wide = (height + 2 * padding) // cells.shape[1], (width + 2 * padding) // cells.shape[2]
        padded = cells[0].repeat_interleave(tall, 0).repeat_interleave(wide, 1)
        pixels &= padded[padding : padding + height, padding : padding + width]
    return pixels
