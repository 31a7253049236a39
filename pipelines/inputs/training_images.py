"""The door for training images: whatever a notebook has, as one array of bytes with labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.cli.console import console
from pipelines.inputs.numbers import shown
from stage1_vqvae.data.examples import image_and_label
from stage1_vqvae.data.image_arrays import in_unit_range
from stage1_vqvae.data.preprocessing import Preprocessing, is_wide
from stage1_vqvae.data.value_range import describe_range, range_of


@dataclass(frozen=True)
class LabelledArray:
    """Images and labels in memory.

    Attributes:
        images: uint8 ``[N, H, W, C]``.
        labels: ``[N]`` integers or texts; None for none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any] | None


def training_images(
    images: Any, labels: Any = None, image_size: tuple[int, int] | None = None, channels: int | None = None
) -> LabelledArray:
    """Images to train on, in memory.

    Args:
        images: An array or tensor, ``[N, H, W, C]``, ``[N, C, H, W]`` or ``[N, H, W]``, of uint8 or of floats in
            [0, 1]; a sequence of images (arrays, tensors, PIL images, paths); or a data set of torch or Hugging Face:
            of images alone, of pairs of image and label, or of mappings.
        labels: One for each image, integers or texts; None takes those of a data set, if it has any.
        image_size: ``(H, W)`` that PIL images and files are fitted to; None for that of the first.
        channels: That they are brought to; None for 1 where the first is grey, else 3.

    Raises:
        ValueError: If there are none, or they are of another type, range or shape, or labels do not fit.
    """
    if isinstance(images, Tensor | np.ndarray):
        found, own = _bytes(images, channels), None
    else:
        found, own = _examples(images, image_size, channels)
    given = own if labels is None else _labels(labels)
    if given is not None and given.shape != (len(found),):
        raise ValueError(f"labels: one for each of {len(found)} images expected, got shape {list(given.shape)}")
    return LabelledArray(found, given)


def _bytes(images: Tensor | NDArray[Any], channels: int | None) -> NDArray[np.uint8]:
    """An array or tensor of images as uint8 ``[N, H, W, C]``."""
    array = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if array.numel() == 0:
        raise ValueError(f"images: at least one expected, got shape {list(array.shape)}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise ValueError(f"images: [N, H, W, C], [N, C, H, W] or [N, H, W] expected, got {list(array.shape)}")
    possible = range(1, 5) if channels is None else (channels,)
    last, first = array.shape[3] in possible, array.shape[1] in possible
    if first and last and array.shape[1] != array.shape[3]:
        raise ValueError(f"images: {list(array.shape)} may have its channels first or last: say so by data.channels")
    if not (first or last):
        raise ValueError(f"images: 1 to 4 channels expected, first or last, got {list(array.shape)}")
    array = array if last else array.permute(0, 2, 3, 1)
    if array.dtype != torch.uint8:
        array = (in_unit_range(array) * 255).round().to(torch.uint8)
    return array.contiguous().numpy()


def _examples(
    images: Any, image_size: tuple[int, int] | None, channels: int | None
) -> tuple[NDArray[np.uint8], NDArray[Any] | None]:
    """A data set or a sequence, example by example."""
    if isinstance(images, str | Path | bytes | Mapping) or not (
        isinstance(images, Iterable) or hasattr(images, "__getitem__")
    ):
        raise ValueError(
            "images: a folder or file, array, tensor, data set, or a sequence of images, paths or PIL images expected, "
            f"got {shown(images)}"
        )
    found: list[NDArray[np.uint8] | Image.Image] = []  # pictures of more than 8 bits wait until their range is known
    labels: list[Any] = []
    fitted: Preprocessing | None = None
    for example in _each(images):
        image, label = image_and_label(example)
        if isinstance(image, Tensor | np.ndarray):
            found.append(_bytes(image[None] if image.ndim == 3 else image[None, ..., None], channels)[0])
        else:
            with _opened(image) as picture:
                if fitted is None:
                    height, width = image_size or (picture.height, picture.width)
                    grey = picture.mode in ("1", "L", "I", "F", "I;16")
                    fitted = Preprocessing(height, width, channels or (1 if grey else 3))
                found.append(picture.copy() if is_wide(picture) else fitted(picture))
        labels.append(label.item() if isinstance(label, Tensor | np.generic) else label)
    if not found:
        raise ValueError("images: at least one expected, got none")
    if fitted and (wide := [one for one in found if isinstance(one, Image.Image)]):
        fitted = replace(fitted, value_range=_range_of_all(wide))
    pixels = [fitted(one) if fitted and isinstance(one, Image.Image) else np.asarray(one) for one in found]
    if len({one.shape for one in pixels}) > 1:
        shapes = sorted({one.shape for one in pixels})
        raise ValueError(f"images: arrays of one shape expected, got {shapes[0]} and {shapes[1]}: resize them alike")
    return np.stack(pixels), None if all(label is None for label in labels) else _labels(labels)


def _range_of_all(pictures: list[Image.Image]) -> tuple[float, float]:
    """The values of all pictures that become black and white, which is said."""
    found = [(float(values.min()), float(values.max())) for values in map(np.asarray, pictures)]
    chosen = range_of(found)
    console.print(f"images: {describe_range(found, chosen)}")
    return chosen


def _each(images: Any) -> Iterable[Any]:
    """Every example once; a map-style data set of torch may have no end but its length."""
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return (images[index] for index in range(len(images)))
    return images


def _opened(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.copy()
    if not isinstance(image, str | Path):
        raise ValueError(f"images: arrays, tensors, PIL images or paths expected, got {shown(image)}")
    try:
        return Image.open(Path(image).expanduser())
    except OSError as error:
        raise ValueError(f"images: {image} is no readable image ({error}): give another file") from error


def _labels(labels: Any) -> NDArray[Any]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.dtype.kind not in "iuU":
        raise ValueError(f"labels: integers or texts expected, got {array.dtype}: {shown(labels)}")
    return array


def training_source(path: str | Path) -> dict[str, str]:
    """The ``data`` option for a folder or file of a user's own, and where it is.

    Raises:
        ValueError: If there is nothing.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(
            f"images: there is no {path}: give a folder of images, a .parquet, .npy or .npz file, or images"
        )
    if found.suffix in (".npy", ".npz"):
        option = "numpy"
    elif found.suffix == ".parquet" or (found.is_dir() and any(found.rglob("*.parquet"))):
        option = "parquet"
    else:
        option = "folder"
    return {"data": option, "data.files": str(found.absolute())}
