"""How arrays of a user's images are read: by the range of their values and the order of their axes."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-3
"""How far outside of [0, 1] a float may lie, as resizing and arithmetic leave it; it is clamped."""


def in_unit_range(array: Tensor) -> Tensor:
    """Float32 in [0, 1] of uint8 or of floats that are there already.

    Raises:
        ValueError: If they are of another type or range; says how to convert them.
    """
    if array.dtype == torch.uint8:
        return array.float() / 255
    if not array.is_floating_point():
        raise ValueError(
            f"images: uint8 of 0 to 255 or floats in [0, 1] expected, got {array.dtype}: "
            "convert with images.astype('uint8') or images.to(torch.uint8)"
        )
    if not torch.isfinite(array).all():
        raise ValueError("images: finite floats in [0, 1] expected, some are NaN or infinite")
    low, high = float(array.min()), float(array.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        how = "(images + 1) / 2" if low >= -1 - ROUNDING and high <= 1 + ROUNDING else "images / 255"
        raise ValueError(
            f"images: floats in [0, 1] expected, these lie in [{low:.4g}, {high:.4g}]: convert, e.g. {how}"
        )
    return array.float().clamp(0, 1)


def channels_first(array: Tensor, image_size: tuple[int, int], channels: int, resize: bool = False) -> Tensor:
    """``[B, C, H, W]`` of images ``[B, C, H, W]``, ``[B, H, W, C]``, either without B, or without C where C is 1.

    Args:
        array: The images.
        image_size: ``(H, W)`` in pixels.
        channels: C.
        resize: Whether images of another size are to be resized, so that any H and W will do.

    Raises:
        ValueError: If they are of another shape, or the shape can be read in two ways.
    """
    found = [ordered for ordered in _readings(array, channels) if resize or tuple(ordered.shape[2:]) == image_size]
    height, width = image_size
    if not found:
        hint = "" if resize else ", or pass resize=True to fit other sizes as in training"
        raise ValueError(
            f"images: [B, {channels}, {height}, {width}] or [B, {height}, {width}, {channels}] expected, "
            f"got {list(array.shape)}{hint}"
        )
    if any(not torch.equal(found[0], other) for other in found[1:]):
        raise ValueError(
            f"images: {list(array.shape)} may have its channels first or last: give [B, {channels}, {height}, {width}]"
        )
    return found[0]


def _readings(array: Tensor, channels: int) -> list[Tensor]:
    """Every way to read an array as ``[B, C, H, W]``."""
    found = []
    if array.ndim == 4:
        found += [array] if array.shape[1] == channels else []
        found += [array.permute(0, 3, 1, 2)] if array.shape[3] == channels else []
    if array.ndim == 3:
        found += [array[None]] if array.shape[0] == channels else []
        found += [array.permute(2, 0, 1)[None]] if array.shape[2] == channels else []
        found += [array[:, None]] if channels == 1 else []
    if array.ndim == 2 and channels == 1:
        found += [array[None, None]]
    return found
