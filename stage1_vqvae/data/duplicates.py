"""Images that show nearly the same: copies that were resized, recompressed or slightly changed in brightness."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stage1_vqvae.data.dataset import ImageSplit

SIDE = 16
"""Images are compared at this height and width."""
OF_CONTRAST = 0.1
"""Two images are nearly equal if they differ by less than this share of the smaller one's contrast, both as RMS."""
OF_RANGE = 1.5 / 255
"""Differences below this share of the range from black to white are none, whatever the contrast."""

_ROWS, _READ = 1024, 256


def thumbnails(images: Tensor) -> Tensor:
    """Images at :data:`SIDE` × :data:`SIDE` pixels.

    Args:
        images: uint8 ``[B, H, W, C]``.

    Returns:
        float32 ``[B, P]`` in [0, 1], P = C * SIDE * SIDE.
    """
    return F.interpolate(images.permute(0, 3, 1, 2) / 255, size=(SIDE, SIDE), mode="area").flatten(1)


def spread_thumbnails(split: ImageSplit, most: int) -> tuple[Tensor, Tensor]:
    """Thumbnails of a split's images, of ``most`` evenly spaced ones where there are more.

    Returns:
        Rows of the images, int64 ``[n]``, and float32 ``[n, P]``.
    """
    rows = np.linspace(0, len(split) - 1, min(len(split), most)).round().astype(np.int64)
    parts = np.array_split(rows, -(-len(rows) // _READ))
    small = [thumbnails(split.__getitems__(part.tolist())["images"]) for part in parts]
    return torch.from_numpy(rows), torch.cat(small)


def first_twins(thumbnails: Tensor, others: Tensor | None = None) -> Tensor:
    """The first image that each image nearly equals.

    Args:
        thumbnails: float32 ``[N, P]`` of :func:`thumbnails`.
        others: float32 ``[M, P]`` to compare with; None compares each image with those before it.

    Returns:
        int64 ``[N]``: rows of ``others`` (of ``thumbnails`` where there are none), -1 for images without a twin.
    """
    known = thumbnails if others is None else others
    found = torch.full((len(thumbnails),), -1)
    if not len(known):
        return found
    contrast, square = known.std(1, correction=0), known.square().mean(1)
    for start in range(0, len(thumbnails), _ROWS):
        rows = thumbnails[start : start + _ROWS]
        product = rows @ known.T / rows.shape[1]
        difference = (rows.square().mean(1)[:, None] + square - 2 * product).clamp(min=0).sqrt()
        smaller = torch.minimum(rows.std(1, correction=0)[:, None], contrast)
        near = difference <= (OF_CONTRAST * smaller).clamp(min=OF_RANGE)
        if others is None:
            near &= torch.arange(len(known)) < torch.arange(start, start + len(rows))[:, None]
        first = near.int().argmax(1)
        found[start : start + len(rows)] = torch.where(near.any(1), first, -1)
    return found
