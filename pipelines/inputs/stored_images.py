"""The images that a caller trains on as keys of ``data``; those in memory are kept in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.inputs.numbers import real_number
from pipelines.inputs.training_images import LabelledArray, training_images, training_source
from stage1_vqvae.files import replacing


def data_keys(
    images: Any, labels: Any, validation: Any, folder: Path, image_size: Any = None, channels: int | None = None
) -> dict[str, Any]:
    """Keys of ``data`` for images: of the user's own files, or of a file of arrays.

    Args:
        images, labels, validation: As for :func:`pipelines.train`.
        folder: For the file of arrays.
        image_size: ``(H, W)`` that files and PIL images are fitted to; None for that of the first.
        channels: That they are brought to; None for those of the first.

    Raises:
        ValueError: If images, labels or validation are nothing to train on.
    """
    if isinstance(images, str | Path):
        if labels is not None:
            raise ValueError("labels: a folder or file has its own, leave them out, or give images in memory")
        if not (validation is None or _is_share(validation)):
            raise ValueError("validation: a fraction of a folder's or file's images expected, or its own split")
        return {**training_source(images), **_share(validation)}
    train_set = training_images(images, labels, tuple(image_size) if image_size else None, channels)
    height, width, depth = train_set.images.shape[1:]
    arrays = _arrays("train", train_set)
    if validation is not None and not _is_share(validation):
        held, held_labels = validation if isinstance(validation, tuple) and len(validation) == 2 else (validation, None)
        try:
            arrays |= _arrays("validation", training_images(held, held_labels, (height, width), depth))
        except ValueError as error:
            raise ValueError(str(error).replace("images:", "validation:", 1)) from error
    file = {"data": "numpy", "data.files": str(stored(arrays, folder).absolute())}
    return {**file, "data.image_size": [height, width], "data.channels": depth, **_share(validation)}


def _is_share(validation: Any) -> bool:
    return isinstance(validation, int | float | np.number)


def _share(validation: Any) -> dict[str, Any]:
    return {"data.validation": real_number(validation, "validation")} if _is_share(validation) else {}


def _arrays(split: str, found: LabelledArray) -> dict[str, np.ndarray[Any, Any]]:
    labels = {} if found.labels is None else {f"{split}_labels": found.labels}
    return {f"{split}_images": found.images, **labels}


def stored(arrays: Mapping[str, np.ndarray[Any, Any]], folder: Path) -> Path:
    """A file of the arrays, named after their content; the same arrays are the same file, written once."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"images-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    return path
