"""Random flips, shifts, rotations and zooms as batched tensor code, each a function of (seed, draw) alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stage1_vqvae.hashing import uniform_per_draw


def normalize(images: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Turns uint8 images ``[B, H, W, C]`` into float32 ``[B, C, H, W]`` in [-1, 1].

    Args:
        images: uint8 ``[B, H, W, C]``.
        memory_format: Of the result; ``torch.channels_last`` is how the images lie and needs no copy.
    """
    return images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format).float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Turns images ``[B, C, H, W]`` in [-1, 1] into uint8 ``[B, H, W, C]``; the inverse of `normalize`."""
    levels = (images.float() + 1) * 127.5
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class Augmentation:
    """Geometric augmentation of a batch, on the device the batch is on.

    The parameters of each image are drawn by a counter-based hash of (seed, draw), so they depend neither on
    the batch an image is in nor on the device. What lies outside an image is its nearest border pixel.

    Args:
        flip: Mirror left and right with probability one half.
        shift: Largest shift along each axis in pixels, i.e. a random crop of the padded image.
        rotate: Largest rotation either way in degrees.
        scale: Largest relative change of size: 0.1 zooms by a factor in [0.9, 1.1].

    Raises:
        ValueError: If a value is out of range.
    """

    flip: bool = False
    shift: int = 0
    rotate: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0 or self.shift != int(self.shift):
            raise ValueError(f"augmentation.shift is a number of pixels, 0 or more, got {self.shift}")
        if not 0 <= self.rotate <= 180:
            raise ValueError(f"augmentation.rotate is an angle from 0 to 180 degrees, got {self.rotate}")
        if not 0 <= self.scale < 1:
            raise ValueError(f"augmentation.scale is a fraction from 0 to below 1, got {self.scale}")

    def __call__(
        self,
        images: Tensor,
        draws: Tensor,
        seed: int,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Tensor:
        """Augments and normalises a batch.

        Args:
            images: uint8 ``[B, H, W, C]``.
            draws: int64 ``[B]``, the number of each draw, ``epoch * len(dataset) + index``.
            seed: Any integer; another seed gives other augmentations.
            memory_format: Of the result, whose numbers are the same in any.

        Returns:
            float32 ``[B, C, H, W]`` in [-1, 1]; exactly ``images / 127.5 - 1`` when everything is off.
        """
        batch = normalize(images, memory_format)
        if self == Augmentation():
            return batch
        uniform = uniform_per_draw(draws.to(images.device), seed, count=5)  # [B, 5]
        if self.rotate or self.scale:
            angles = (2 * uniform[:, 0] - 1) * math.radians(self.rotate)
            factors = 1 + (2 * uniform[:, 1] - 1) * self.scale
            batch = _rotate_and_scale(batch, angles, factors)
        if self.flip or self.shift:
            offsets = (uniform[:, 2:4] * (2 * self.shift + 1)).long() - self.shift  # [B, 2]
            flipped = (uniform[:, 4] < 0.5) & self.flip
            batch = _shift_and_flip(batch, offsets, flipped)
        return batch.contiguous(memory_format=memory_format)

    def describe(self) -> dict[str, bool | int | float]:
        """Returns the settings as plain values, for manifests."""
        return asdict(self)


def _rotate_and_scale(images: Tensor, angles: Tensor, factors: Tensor) -> Tensor:
    """Turns images ``[B, C, H, W]`` about their centre by `angles` (radians) and zooms by `factors`, bilinear."""
    height, width = images.shape[-2:]
    cosine, sine = angles.cos() / factors, angles.sin() / factors
    zero = torch.zeros_like(angles)
    # affine_grid works in coordinates from -1 to 1 on both axes: off square, a rotation has to undo that.
    rows = [cosine, -sine * height / width, zero, sine * width / height, cosine, zero]
    matrices = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _shift_and_flip(images: Tensor, offsets: Tensor, flipped: Tensor) -> Tensor:
    """Shifts images ``[B, C, H, W]`` by whole pixels, offsets ``[B, 2]`` as (y, x), then mirrors the flipped."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - offsets[:, :1]).clamp(0, height - 1)  # [B, H]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)  # [B, W]
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    columns = (columns - offsets[:, 1:]).clamp(0, width - 1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put their axes first: [B, H, W, C].
    picked = images[batch, :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
