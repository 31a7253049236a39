"""Finds the images in a user's own folder, and which split and class each belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stage1_vqvae.data.decoding import SUFFIXES
from stage1_vqvae.data.labels import in_order
from stage1_vqvae.data.originals import LeftOut, printable
from stage1_vqvae.data.splits import choose_splits, listed, not_used, role_of
from stage1_vqvae.data.tree import Tree


@dataclass(frozen=True)
class ImageFiles:
    """Image files by split.

    Attributes:
        paths: Paths of each split, sorted.
        labels: Class of each path, -1 where it lies in no class folder.
        class_names: Names of the class folders of all splits, in order.
        left_out: Files that are passed over.
        notes: What a person should know of the folder, a sentence each.
    """

    paths: dict[str, list[Path]]
    labels: dict[str, list[int]]
    class_names: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        path: Of the image.
        split: Name of its split.
        top: The folder in which the class folders lie.
        folders: Its folders below that; the first may name its class.
    """

    path: Path
    split: str
    top: Path
    folders: tuple[str, ...]


def find_images(files: str | Path, class_folders: bool = True, split_folders: bool = True) -> ImageFiles:
    """Finds the images of a folder.

    Folders at the top that are all named as splits (see `splits.role_of`), with a training split among them, are
    splits; so are folders of these names inside of every class folder. Other folders at the top, or at the top of a
    split, are classes, however deep the images lie in them. A folder that holds nothing but one folder is passed
    through. Hidden files and folders are passed over, and what lies behind several links is found once. A folder
    that holds descriptions of images alone (see `Tree`) is neither a split nor a class.

    Args:
        files: The folder.
        class_folders: Whether folders name classes.
        split_folders: Whether folders may name splits; false takes every folder at the top for a class.

    Raises:
        ValueError: If there is no such folder, no image or an empty class folder, or if it cannot be told which
            folders are splits and which are classes.
    """
    root = Path(files).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.files={printable(files)} is not a folder: give one with images, "
            f"<class>/*.jpg or *.jpg (or use data=parquet for parquet files)"
        )
    tree = Tree.below(root)
    if not tree.images:
        raise ValueError(f"data.files: no images below {printable(root)}, expected {', '.join(SUFFIXES)}")
    while len(inner := tree.folders_in(root)) == 1 and not tree.images_in(root):
        root /= inner[0]
    named = _splits(tree, root) if split_folders else {"": _places(tree, root)}
    chosen = choose_splits(named, f"data.files: {printable(root)}")
    for split, places in chosen.items():
        if not places:
            raise ValueError(f"data.files: no images below {printable(root)} for the {split} split")
    notes = [*not_used(named, chosen)]
    notes += [f"the folder {printable(folder)} holds no images and names no class" for folder in tree.descriptions]
    paths = {split: [place.path for place in places] for split, places in chosen.items()}
    if not class_folders:
        labels = {split: [-1] * len(places) for split, places in chosen.items()}
        return ImageFiles(paths, labels, (), tuple(tree.left_out), tuple(notes))
    classes = {split: _classes(tree, places) for split, places in _unwrapped(tree, chosen).items()}
    names = in_order(name for found in classes.values() for name in found if name)
    index = {"": -1} | {name: position for position, name in enumerate(names)}
    labels = {split: [index[name] for name in found] for split, found in classes.items()}
    return ImageFiles(paths, labels, tuple(names), tuple(tree.left_out), tuple(notes))


def _places(tree: Tree, root: Path) -> list[Place]:
    return [Place(path, "", root, path.relative_to(root).parts[:-1]) for path in tree.images]


def _splits(tree: Tree, root: Path) -> dict[str, list[Place]]:
    """Images of each split by its name; of a single one without a name where no folder is named as a split."""
    top = tree.folders_in(root)
    named, others = [name for name in top if role_of(name)], [name for name in top if not role_of(name)]
    loose = [path.name for path in tree.images_in(root)]
    by_split: dict[str, list[Place]] = {}
    if named and (others or loose):
        raise ValueError(
            f"data.files: in {printable(root)} {_listed(named)} {'are' if len(named) > 1 else 'is'} named as a split, "
            f"{_listed(others or loose)} {'are' if len(others or loose) > 1 else 'is'} not: move what does not belong "
            "to the data set, or set data.split_folders=false if folders at the top are classes"
        )
    if named:
        if not any(role_of(name) == "train" for name in named) and len(named) > 1:
            raise ValueError(
                f"data.files: in {printable(root)} {_listed(named)} are named as splits, none as the training split: "
                "name one train, or set data.split_folders=false if they are classes"
            )
        by_split = {name: [] for name in named}
        for place in _places(tree, root):
            split, *inner = place.folders
            by_split[split].append(Place(place.path, split, root / split, tuple(inner)))
        return by_split
    divided = [name for name in top if _is_divided(tree, root / name)]
    if divided and len(divided) < len(top):
        rest = [name for name in top if name not in divided]
        raise ValueError(
            f"data.files: in {printable(root)} these folders hold splits: {_listed(divided)}; these do not: "
            f"{_listed(rest)}: divide all class folders or none, or set data.split_folders=false"
        )
    if not divided or loose:
        return {"": _places(tree, root)}
    for place in _places(tree, root):
        label, split, *inner = place.folders
        by_split.setdefault(split, []).append(Place(place.path, split, root, (label, *inner)))
    return by_split


def _is_divided(tree: Tree, folder: Path) -> bool:
    """Whether a folder holds nothing but splits."""
    roles = {role_of(name) for name in tree.folders_in(folder)}
    return "train" in roles and "" not in roles and not tree.images_in(folder)


def _unwrapped(tree: Tree, chosen: dict[str, list[Place]]) -> dict[str, list[Place]]:
    """Passes through a folder that is alone at the top of every split, such as ``train/images`` and ``val/images``."""
    while len(chosen) > 1:
        alone = {tuple(tree.folders_in(top)) for places in chosen.values() for top in {place.top for place in places}}
        if len(alone) != 1 or len(min(alone)) != 1 or not all(p.folders for places in chosen.values() for p in places):
            break
        chosen = {
            split: [Place(place.path, place.split, place.top / place.folders[0], place.folders[1:]) for place in places]
            for split, places in chosen.items()
        }
    return chosen


def _classes(tree: Tree, places: list[Place]) -> list[str]:
    """Returns the class folder of each image of a split, empty strings where the images lie in none."""
    top = printable(places[0].top)
    outside = [place for place in places if not place.folders]
    if len(outside) == len(places):
        return [""] * len(places)
    if outside:
        raise ValueError(
            f"data.files: images outside of the class folders of {top}: {len(outside)} (the first is "
            f"{printable(outside[0].path.name)}): move them, or set data.class_folders=false to train without classes"
        )
    classes = [place.folders[0] for place in places]
    for name in sorted(set(tree.folders_in(places[0].top)) - set(classes)):
        empty = places[0].top / name
        if not any(image.is_relative_to(empty) for image in tree.images):  # it may have images of another split
            raise ValueError(f"data.files: the class folder {printable(empty)} holds no images: add some or remove it")
    for name in set(classes):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"data.files: the class folder {printable(name)} of {top} has no UTF-8 name: rename it"
            ) from None
    return classes


def _listed(names: Iterable[str]) -> str:
    return printable(listed(names))
