"""Finds the image and parquet files of a user's own data set, and which split and class each belongs to."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
_Split = TypeVar("_Split")


@dataclass(frozen=True)
class ImageFiles:
    """Image files by split.

    Attributes:
        paths: Sorted paths of each split.
        labels: Class index of each path, -1 where it lies in no class folder.
        class_names: Names of the class folders of all splits, sorted.
    """

    paths: dict[str, list[Path]]
    labels: dict[str, list[int]]
    class_names: tuple[str, ...]


def choose_splits(named: dict[str, _Split]) -> dict[str, _Split]:
    """Keeps `train` and, as `validation`, the split of that name or else the test split."""
    by_role: dict[str, _Split] = {}
    for name, split in named.items():
        by_role.setdefault(_SPLITS.get(name, name), split)
    if "train" not in by_role and len(named) > 1:
        raise ValueError(f"the data set has the splits {', '.join(sorted(named))}, expected one named train")
    train = by_role.get("train", next(iter(named.values())))
    validation = by_role.get("validation", by_role.get("test")) if "train" in by_role else None
    return {"train": train} if validation is None else {"train": train, "validation": validation}


def file_identity(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Returns path, size and modification time of files: what a cache takes as the same contents."""
    stats = ((path, path.stat()) for path in paths)
    return [(str(path.absolute()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def find_images(files: str | Path, class_folders: bool) -> ImageFiles:
    """Lists a folder of images.

    Folders at the top that are all named as splits (train, validation or val, test) with train among them are
    splits. Folders at the top of a split are classes, however deep the images lie in them. A folder that holds
    nothing but one folder is passed through. Hidden files and folders are left out.

    Args:
        files: The folder.
        class_folders: Whether folders name classes.

    Raises:
        ValueError: If there is no such folder, no image, an empty class folder, or images outside of the class
            folders that others lie in.
    """
    root = Path(files).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.files={files} is not a folder: give one with images, "
            f"<class>/*.jpg or *.jpg (or use data=parquet for parquet files)"
        )
    root = _pass_through(root)
    folders = _folders(root)
    named = {folder.name.lower(): folder for folder in folders}
    loose = any(_is_image(path) for path in root.iterdir())
    if not loose and "train" in {_SPLITS.get(name) for name in named} and all(map(_SPLITS.get, named)):
        roots = choose_splits(named)
    else:
        roots = {"train": root}
    paths = {split: _images_below(folder) for split, folder in roots.items()}
    for split, found in paths.items():
        if not found:
            raise ValueError(f"data.files: no images below {roots[split]}, expected {', '.join(_SUFFIXES)}")
    if not class_folders:
        return ImageFiles(paths, {split: [-1] * len(found) for split, found in paths.items()}, ())
    classes = {split: _classes(roots[split], found) for split, found in paths.items()}
    names = sorted({name for found in classes.values() for name in found if name})
    index = {"": -1} | {name: position for position, name in enumerate(names)}
    labels = {split: [index[name] for name in found] for split, found in classes.items()}
    return ImageFiles(paths, labels, tuple(names))


def _classes(root: Path, paths: list[Path]) -> list[str]:
    """Returns the class folder of each path, empty strings when the images lie in none."""
    parts = [path.relative_to(root).parts for path in paths]
    outside = [path for path, part in zip(paths, parts, strict=True) if len(part) == 1]
    if len(outside) == len(paths):
        return [""] * len(paths)
    if outside:
        raise ValueError(
            f"data.files: {len(outside)} images lie outside of the class folders of {root} (the first is "
            f"{outside[0].name}): move them, or set data.class_folders=false to train without classes"
        )
    classes = [part[0] for part in parts]
    empty = {folder.name for folder in _folders(root)} - set(classes)
    if empty:
        raise ValueError(f"data.files: the class folder {root / min(empty)} holds no images: add some or remove it")
    return classes


def _pass_through(root: Path) -> Path:
    while len(folders := _folders(root)) == 1 and not any(_is_image(path) for path in root.iterdir()):
        root = folders[0]
    return root


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _images_below(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found.extend(path for name in names if _is_image(path := Path(folder, name)))
    return sorted(found)


def find_parquet(files: str | Path) -> dict[str, list[Path]]:
    """Lists parquet files by split.

    File names that begin with train, validation (valid, val) or test say which split a file belongs to, or else
    the folder it lies in, by its whole name. Where none is named train, all files together are the training split.

    Args:
        files: A parquet file, a pattern such as ``data/*.parquet``, or a folder (searched to any depth).

    Raises:
        ValueError: If nothing is found, or only some of the files are named by split.
    """
    path = Path(files).expanduser()
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found:
        raise ValueError(
            f"data.files={files}: no parquet files there, give a .parquet file, a pattern "
            f"such as '{path.parent / '*.parquet'}', or a folder that holds some"
        )
    named: dict[str, list[Path]] = {}
    for file in found:
        named.setdefault(_split_of(file), []).append(file)
    if "train" not in named:
        return {"train": found}
    if "" in named:
        raise ValueError(
            f"data.files={files}: {named[''][0].name} is named after no split while {named['train'][0].name} "
            f"is: rename it train-..., validation-... or test-..., or give a pattern that leaves it out"
        )
    return choose_splits(named)


def _split_of(file: Path) -> str:
    match = re.match(r"(train|validation|valid|val|test)(?![a-z0-9])", file.stem.lower())
    return _SPLITS.get(match[1] if match else file.parent.name.lower(), "")
