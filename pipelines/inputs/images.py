"""The door for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.inputs.numbers import shown
from stage1_vqvae.data.image_arrays import channels_first, in_unit_range
from stage1_vqvae.data.preprocessing import MODES, Preprocessing


def images_of(images: Any, image_size: tuple[int, int], channels: int, resize: bool = False) -> Tensor:
    """Images as float32 ``[B, C, H, W]`` in [0, 1].

    Args:
        images: A tensor or array, one PIL image, one path, or a sequence of any of these. Integers are uint8, 0 to 255;
            floats are in [0, 1]. Arrays are ``[B, C, H, W]``, ``[B, H, W, C]``, either without B, or without C where C
            is 1. Files and PIL images are brought to C channels as in training.
        image_size: ``(H, W)`` in pixels.
        channels: C.
        resize: Whether images of another size are resized and cropped to it as in training, not refused.

    Raises:
        ValueError: If there are none, or they are of another type, range or size; says how to convert them.
    """
    if isinstance(images, Tensor | np.ndarray):
        return _from_array(images, image_size, channels, resize)
    several = [images] if isinstance(images, str | Path | Image.Image) or not isinstance(images, Sequence) else images
    if len(several) == 0:
        raise ValueError("images: at least one expected, got none")
    return torch.cat([_from_one(one, image_size, channels, resize) for one in several])


def _from_one(image: Any, image_size: tuple[int, int], channels: int, resize: bool) -> Tensor:
    if isinstance(image, Tensor | np.ndarray):
        return _from_array(image, image_size, channels, resize)
    if isinstance(image, Image.Image):
        return _from_picture(image, "a PIL image", image_size, channels, resize)
    if not isinstance(image, str | Path):
        raise ValueError(f"images: tensor, array, PIL image, path, or a list of these expected, got {shown(image)}")
    path = Path(image).expanduser()
    try:
        with Image.open(path) as opened:
            opened.load()
            return _from_picture(opened, str(path), image_size, channels, resize)
    # PIL's decoders raise OSError, SyntaxError, struct.error, EOFError, ... on broken files.
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("images: "):
            raise
        raise ValueError(f"images: {path} is no readable image ({error}): give another file") from error


def _from_picture(image: Image.Image, name: str, image_size: tuple[int, int], channels: int, resize: bool) -> Tensor:
    height, width = image_size
    if image.size != (width, height) and not resize:
        raise ValueError(
            f"images: {height}×{width} pixels expected, {name} has {image.height}×{image.width}: "
            "pass resize=True to fit it as in training"
        )
    pixels = Preprocessing(height, width, channels)(image)
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255  # a copy: pixels may be read-only


def _from_array(
    images: Tensor | np.ndarray[Any, Any], image_size: tuple[int, int], channels: int, resize: bool
) -> Tensor:
    array = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if array.numel() == 0:
        raise ValueError(f"images: at least one expected, got shape {list(array.shape)}")
    ordered = channels_first(in_unit_range(array), image_size, channels, resize)
    if tuple(ordered.shape[2:]) == image_size:
        return ordered
    height, width = image_size
    fitted = Preprocessing(height, width, channels)
    pictures = (ordered * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    mode = MODES[channels]
    made = [fitted(Image.fromarray(one[..., 0] if channels == 1 else one, mode)) for one in pictures]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255
