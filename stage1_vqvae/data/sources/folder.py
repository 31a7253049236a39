"""``data=folder``: a user's own folder of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stage1_vqvae.data.folders import find_images
from stage1_vqvae.data.originals import Files, OriginalSet, OriginalSplit, printable
from stage1_vqvae.data.sources.base import Found, ImageSource


@dataclass(kw_only=True)
class Folder(ImageSource):
    """A folder of image files, in class folders or not (see `stage1_vqvae.data.folders.find_images`).

    Args:
        files: The folder.
        class_folders: Whether folders name classes; false trains without labels.
        split_folders: Whether folders named train, validation, test and the like are splits; false takes every folder
            at the top for a class.
    """

    files: str
    class_folders: bool = True
    split_folders: bool = True

    def find(self) -> Found:
        """Lists the folder."""
        files = find_images(self.files, self.class_folders, self.split_folders)
        identity = {
            "labels": files.labels,
            "class_names": files.class_names,
            "files": {split: file_identity(paths) for split, paths in files.paths.items()},
        }

        def read() -> OriginalSet:
            splits = {
                split: OriginalSplit(Files(paths), np.array(files.labels[split], dtype=np.int64))
                for split, paths in files.paths.items()
            }
            return OriginalSet(splits, files.class_names)

        name = f"folder {printable(Path(self.files).expanduser().resolve().name)}"
        return Found(name, identity, read, files.left_out, files.notes)


def file_identity(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Returns path, size and modification time of files: what a cache takes as the same contents."""
    return [(os.path.abspath(path), *_size_and_time(path)) for path in paths]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # a link to nothing, or a file that a table names and that is not there
        return -1, -1
    return found.st_size, found.st_mtime_ns
