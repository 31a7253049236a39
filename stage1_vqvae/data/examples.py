"""What an example, or a batch, of a user's data set holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stage1_vqvae.data.image_arrays import channels_first, in_unit_range

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "y", "class")
"""Names under which a mapping holds images and labels, the first that is there."""


def image_and_label(example: Any) -> tuple[Any, Any]:
    """Image and label of an example, or images and labels of a batch; None for labels that it has not.

    Args:
        example: An image alone, a pair of image and label, or a mapping.

    Raises:
        ValueError: If it holds no image, or more than an image and a label.
    """
    if isinstance(example, Mapping):
        image = next((example[key] for key in IMAGE_KEYS if key in example), None)
        label = next((example[key] for key in LABEL_KEYS if key in example), None)
        if image is None:
            raise ValueError(f"images: an example with a key {', '.join(IMAGE_KEYS)} expected, got {list(example)}")
        return image, label
    if isinstance(example, tuple | list):
        if not 1 <= len(example) <= 2:
            raise ValueError(f"images: an image, or a pair of image and label, expected, got {len(example)} things")
        return example[0], example[1] if len(example) == 2 else None
    return example, None


def training_batch(batch: Any, image_size: tuple[int, int], channels: int) -> dict[str, Tensor]:
    """A batch of any DataLoader as a tokenizer trains on it: ``images`` uint8 ``[B, H, W, C]``.

    Args:
        batch: Images, a pair of images and labels, or a mapping. Images are uint8 of 0 to 255 or floats in [0, 1],
            channels first or last.
        image_size: ``(H, W)`` in pixels.
        channels: C.

    Raises:
        ValueError: If they are of another type, range or size; says how to convert them.
    """
    images, _ = image_and_label(batch)
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(
            f"images: a batch of tensors or arrays expected, got {type(images).__name__}: "
            "convert them in the data set, by torchvision's ToTensor() say"
        )
    array = torch.as_tensor(images)
    ordered = array if array.dtype == torch.uint8 else in_unit_range(array).mul(255).round().to(torch.uint8)
    return {"images": channels_first(ordered, image_size, channels).permute(0, 2, 3, 1)}
