"""``data=numpy``: arrays in `.npy` and `.npz` files, and arrays in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.data.decoding import first_line
from stage1_vqvae.data.labels import Labels, number_labels
from stage1_vqvae.data.originals import OriginalSet, OriginalSplit, Pixels
from stage1_vqvae.data.sources.base import Found, ImageSource
from stage1_vqvae.data.sources.folder import file_identity
from stage1_vqvae.data.splits import choose_splits, listed, not_used, role_of

_IMAGES = ("images", "image", "imgs", "img", "x", "data", "pixels")
_LABELS = ("labels", "label", "y", "targets", "target", "classes")


@dataclass(kw_only=True)
class Numpy(ImageSource):
    """Images ``[N, H, W, C]`` or ``[N, H, W]`` in a `.npy` or `.npz` file.

    Arrays of an `.npz` file are told by their names: ``images`` and ``labels``, or ``x`` and ``y``, alone or with a
    split (``train_images``, ``x_test``, ``testX``). Bytes are levels; other numbers are scaled over the set
    (see `data.range`).

    Args:
        files: The file.
        labels: A `.npy` file of ``[N]`` integers or strings, for images in a `.npy` file; or ``auto`` for the labels
            in an `.npz` file; None trains without.
    """

    files: str
    labels: str | None = "auto"

    def find(self) -> Found:
        """Looks for the files."""
        path = Path(self.files).expanduser()
        if not path.is_file() or path.suffix not in (".npy", ".npz"):
            raise ValueError(f"data.files={self.files}: a .npy or .npz file expected, there is none")
        paths = [path]
        if self.labels not in (None, "auto"):
            paths.append(Path(str(self.labels)).expanduser())
            if not paths[1].is_file():
                raise ValueError(f"data.labels={self.labels}: a .npy file of labels, auto or null expected")
        name = f"numpy {path.resolve().name}"
        identity = {"labels": self.labels is not None, "files": file_identity(paths)}

        def read() -> OriginalSet:
            arrays = _load(path)
            if len(paths) == 2:
                arrays["labels"] = _load(paths[1])["images"]
            if self.labels is None:
                arrays = {key: array for key, array in arrays.items() if _part(key) != "labels"}
            return arrays_set(arrays, name)

        return Found(name, identity, read)


@dataclass(kw_only=True)
class Arrays(ImageSource):
    """Images in memory.

    Args:
        images: ``[N, H, W, C]`` or ``[N, H, W]``. Bytes are levels; other numbers are scaled over the set.
        labels: ``[N]`` integers or strings; None for none.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | Sequence[int] | Sequence[str] | None = None

    def find(self) -> Found:
        """Hashes the arrays."""
        arrays = {"images": np.asarray(self.images)}
        if self.labels is not None:
            arrays["labels"] = np.asarray(self.labels)
        identity = {
            name: [str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]
            for name, array in arrays.items()
        }
        return Found("array", identity, lambda: arrays_set(arrays, "array"))


def arrays_set(arrays: dict[str, NDArray[Any]], name: str) -> OriginalSet:
    """Makes a set of arrays that are told by their names.

    Args:
        arrays: ``images`` and perhaps ``labels``, alone or for each split.
        name: What messages call the source.

    Raises:
        ValueError: If there are no images, labels do not fit them, or an array is of another shape.
    """
    images, labels = _by_split(arrays, "images", name), _by_split(arrays, "labels", name)
    if not images:
        raise ValueError(f"{name} holds the arrays {', '.join(arrays)}, expected one named images, or x")
    values: dict[str, list[Any]] = {}
    words = {word: word for word in images}
    chosen = choose_splits(words, name)
    for split, word in chosen.items():
        _check(images[word], name)
        if labels:
            given = labels.get(word, np.empty(0))
            given = given[:, 0] if given.shape[1:] == (1,) else given
            if given.shape != images[word].shape[:1]:
                raise ValueError(
                    f"{name}: labels [{len(images[word])}] expected for the {split} split, got {list(given.shape)}"
                )
            values[split] = given.tolist()
    made = Labels({split: np.full(len(images[word]), -1) for split, word in chosen.items()}, ())
    if labels:
        made = number_labels(values, f"labels of {name}", fix="set data.labels=null to train without")
    splits = {
        split: OriginalSplit(Pixels(images[word], f"{name}, {split}"), made.by_split[split])
        for split, word in chosen.items()
    }
    left = [key for key in arrays if not _part(key)]
    unread = (f"arrays that are not used: {listed(left)}",) if left else ()
    unused = not_used(images, {split: images[word] for split, word in chosen.items()})
    return OriginalSet(splits, made.class_names, (*made.notes, *unused, *unread))


def _by_split(arrays: dict[str, NDArray[Any]], part: str, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of images, or of labels, by the split that their names say.

    Raises:
        ValueError: If there are two for one split.
    """
    found: dict[str, str] = {}
    for key in arrays:
        if _part(key) == part:
            other = found.setdefault(_split(key), key)
            if other != key:
                fix = " or set data.labels=null" if part == "labels" else ""
                raise ValueError(f"{name}: {other} and {key} may both be the {part}: keep one of them in the file{fix}")
    return {split: arrays[key] for split, key in found.items()}


def _check(images: NDArray[Any], name: str) -> None:
    numbers = np.issubdtype(images.dtype, np.number) or images.dtype == bool
    if not numbers or np.issubdtype(images.dtype, np.complexfloating):
        raise ValueError(f"{name}: images of numbers expected, got {images.dtype}")
    if images.ndim not in (3, 4) or (images.ndim == 4 and not 1 <= images.shape[3] <= 4):
        hint = "; move the channels to the end" if images.ndim == 4 and images.shape[1] <= 4 else ""
        raise ValueError(
            f"{name}: images [N, H, W, C] or [N, H, W] with C from 1 to 4 expected, got {list(images.shape)}{hint}"
        )
    if len(images) == 0 or 0 in images.shape:
        raise ValueError(f"{name}: images expected, got an empty array {list(images.shape)}")


def _part(key: str) -> str:
    """Whether an array is of images or of labels, by the last word of its name; empty where it is neither."""
    words = [word for word in _words(key) if not role_of(word)]
    if key == "arr_0" or (words and words[-1] in _IMAGES):
        return "images"
    return "labels" if words and words[-1] in _LABELS else ""


def _words(key: str) -> list[str]:
    """The words of a name such as ``train_images`` or ``trainImages``."""
    return re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())


def _split(key: str) -> str:
    """The split that an array's name says, ``train`` if it says none."""
    return next((word for word in _words(key) if role_of(word)), "train")


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a file by name; the one of a `.npy` file, memory-mapped, is called ``images``."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        return {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except Exception as error:  # zipfile's and numpy's, of many kinds
        raise ValueError(f"{path} cannot be read ({first_line(error)}): save it again with numpy.save") from error
