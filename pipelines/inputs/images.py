"""The door for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.inputs.numbers import shown
from stage1_vqvae.data.decoding import UnreadableImage, read_file, read_header, upright_size
from stage1_vqvae.data.image_arrays import channels_first, in_unit_range
from stage1_vqvae.data.originals import Original, printable
from stage1_vqvae.data.preprocessing import MODES, Preprocessing


def images_of(images: Any, form: Preprocessing, resize: bool = False) -> Tensor:
    """Images as float32 ``[B, C, H, W]`` in [0, 1].

    Args:
        images: A tensor or array, one PIL image, one path, or a sequence of any of these. Integers are uint8, 0 to 255;
            floats are in [0, 1]. Arrays are ``[B, C, H, W]``, ``[B, H, W, C]``, either without B, or without C where C
            is 1. Files and PIL images are read as those of a training.
        form: How images of the training were prepared, which says H, W and C.
        resize: Whether images of another size are resized and cropped to it as in training, not refused.

    Raises:
        ValueError: If there are none, or they are of another type, range or size; says how to convert them.
    """
    if isinstance(images, Tensor | np.ndarray):
        return _from_array(images, form, resize)
    several = [images] if isinstance(images, str | Path | Image.Image) or not isinstance(images, Sequence) else images
    if len(several) == 0:
        raise ValueError("images: at least one expected, got none")
    return torch.cat([_from_one(one, form, resize) for one in several])


def _from_one(image: Any, form: Preprocessing, resize: bool) -> Tensor:
    if isinstance(image, Tensor | np.ndarray):
        return _from_array(image, form, resize)
    if isinstance(image, Image.Image):
        if not resize:
            _check_size(upright_size(image), "a PIL image", form)
        return _in_unit_range(form(image))
    if not isinstance(image, str | Path):
        raise ValueError(f"images: tensor, array, PIL image, path, or a list of these expected, got {shown(image)}")
    path = Path(image).expanduser()
    header = read_header(Original(path, printable(path)))
    if header is not None and not resize:
        _check_size(header.size, printable(path), form)
    try:
        return _in_unit_range(read_file(path, form))
    except UnreadableImage as error:
        raise ValueError(f"images: {error}") from error


def _check_size(size: tuple[int, int], name: str, form: Preprocessing) -> None:
    if size != (form.height, form.width):
        raise ValueError(
            f"images: {form.height}×{form.width} pixels expected, {name} has {size[0]}×{size[1]}: "
            "pass resize=True to fit it as in training"
        )


def _in_unit_range(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255  # a copy: pixels may be read-only


def _from_array(images: Tensor | NDArray[Any], form: Preprocessing, resize: bool) -> Tensor:
    array = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if array.numel() == 0:
        raise ValueError(f"images: at least one expected, got shape {list(array.shape)}")
    size = (form.height, form.width)
    ordered = channels_first(in_unit_range(array), size, form.channels, resize)
    if tuple(ordered.shape[2:]) == size:
        return ordered
    pictures = (ordered * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    grey = form.channels == 1
    made = [form(Image.fromarray(one[..., 0] if grey else one, MODES[form.channels])) for one in pictures]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255
