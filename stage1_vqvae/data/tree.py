"""All that lies below a folder: the images, the folders, and what is passed over, each with its reason."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stage1_vqvae.data.decoding import SUFFIXES
from stage1_vqvae.data.originals import LeftOut, printable
from stage1_vqvae.data.splits import role_of

DESCRIPTIONS = (".csv", ".html", ".json", ".jsonl", ".mat", ".md", ".npy", ".txt", ".xml", ".yaml", ".yml")
"""Endings of files that lie beside images and describe them."""

SYSTEM = ("$recycle.bin", "@eadir", "__macosx", "lost+found", "system volume information")
"""Folders that operating systems, archives and storage devices make; what lies in them is nobody's data."""


@dataclass
class Tree:
    """All that lies below a folder, each real folder once.

    Attributes:
        images: Files with the ending of an image.
        folders: All folders, the links to some among them; without those of ``descriptions``.
        descriptions: Folders that hold descriptions of images, such as ``labels`` or ``annotations``, and no images.
        left_out: What is passed over.
    """

    images: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    descriptions: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @classmethod
    def below(cls, root: Path) -> Tree:
        """Walks a folder. Links are followed last, so that a folder that has a place of its own is found there.

        Raises:
            ValueError: If a folder may not be read.
        """
        tree, seen, links = cls(), {_identity(root)}, deque[Path]()
        others: list[Path] = []
        pending = [root]
        while pending or links:
            if pending:
                folder = pending.pop()
            else:
                folder = links.popleft()
                if _identity(folder) in seen or root.resolve().is_relative_to(folder.resolve()):
                    tree._pass_over(folder, "a link to a folder that is read already")
                    continue
                seen.add(_identity(folder))
            if folder != root:
                tree.folders.append(folder)
            tree._look_into(folder, pending, links, seen, others)
        tree.images.sort()
        tree._set_descriptions_apart(others)
        return tree

    def _look_into(
        self,
        folder: Path,
        pending: list[Path],
        links: deque[Path],
        seen: set[tuple[int, int]],
        others: list[Path],
    ) -> None:
        """Sorts what lies in a folder; ``others`` gets the files that are no images."""
        for entry in _entries(folder):
            path, name, link = Path(entry.path), entry.name.lower(), entry.is_symlink()
            if name.startswith("."):
                self._pass_over(path, "hidden")
            elif os.path.isdir(path) if link else entry.is_dir():
                if name in SYSTEM:
                    self._pass_over(path, "a folder of an operating system or an archive")
                elif link:
                    links.append(path)
                else:
                    seen.add(_identity(path))
                    pending.append(path)
            elif os.path.exists(path) and not os.path.isfile(path) if link else not entry.is_file():
                self._pass_over(path, "no file but a pipe, a socket or a device")
            elif name.endswith(SUFFIXES):  # also a link to nothing: it is an image that cannot be read
                self.images.append(path)
            else:
                others.append(path)
                table = "a table that is not read: folders name the classes"
                self._pass_over(
                    path, table if name.startswith("metadata.") else "not the ending of an image that is read"
                )

    def _set_descriptions_apart(self, others: list[Path]) -> None:
        """Tells folders that describe images from folders whose images are missing or of a format that is not read."""
        with_images = _folders_of(self.images)
        with_others = _folders_of(path for path in others if path.suffix.lower() not in DESCRIPTIONS)
        described = _folders_of(others) - with_others - with_images
        apart = {folder for folder in self.folders if folder in described and not role_of(folder.name)}
        self.descriptions = sorted(folder for folder in apart if folder.parent not in apart)
        self.folders = [folder for folder in self.folders if folder not in apart]

    def _pass_over(self, path: Path, reason: str) -> None:
        self.left_out.append(LeftOut("", printable(path), reason))

    def folders_in(self, root: Path) -> list[str]:
        """Names of the folders that lie in one, sorted."""
        return sorted(folder.name for folder in self.folders if folder.parent == root)

    def images_in(self, root: Path) -> list[Path]:
        """Images that lie in a folder itself."""
        return [path for path in self.images if path.parent == root]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name.

    Raises:
        ValueError: If it may not be read: the images in it would be missed.
    """
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _denied(folder, error) from error


def _denied(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"data.files: the folder {printable(folder)} cannot be read ({error.strerror}): "
        "allow that, or move it elsewhere"
    )


def _folders_of(paths: Iterable[Path]) -> set[Path]:
    """All folders in which files lie, at whatever depth."""
    inner = {path.parent for path in paths}
    return inner | {above for folder in inner for above in folder.parents}


def _identity(folder: Path) -> tuple[int, int]:
    """Tells a folder from all others, by whatever path it is reached."""
    try:
        found = folder.stat()
    except OSError as error:
        raise _denied(folder, error) from error
    return found.st_dev, found.st_ino
