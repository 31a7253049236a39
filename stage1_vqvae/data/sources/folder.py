"""``data=folder``: a user's own folder of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.data.decoding import frames_in
from stage1_vqvae.data.folders import find_images
from stage1_vqvae.data.originals import Files, Frames, OriginalSet, OriginalSplit, printable
from stage1_vqvae.data.sources.base import Found, ImageSource


@dataclass(kw_only=True)
class Folder(ImageSource):
    """A folder of image files, in class folders or not (see `stage1_vqvae.data.folders.find_images`).

    Args:
        files: The folder.
        class_folders: Whether folders name classes; false trains without labels.
        split_folders: Whether folders named train, validation, test and the like are splits; false takes every folder
            at the top for a class.
        frames: Of a file that holds several frames or pages (an animation, a TIFF stack), the ``first``, or ``all`` as
            images of their own. Those of one file are held back together or not at all, by their content.
    """

    files: str
    class_folders: bool = True
    split_folders: bool = True
    frames: Literal["first", "all"] = "first"

    def find(self) -> Found:
        """Lists the folder."""
        files = find_images(self.files, self.class_folders, self.split_folders)
        identity = {
            "labels": files.labels,
            "class_names": files.class_names,
            "files": {split: file_identity(paths) for split, paths in files.paths.items()},
            **({"frames": self.frames} if self.frames != "first" else {}),
        }

        def read() -> OriginalSet:
            splits = {
                split: self._split(paths, np.array(files.labels[split], dtype=np.int64))
                for split, paths in files.paths.items()
            }
            return OriginalSet(splits, files.class_names)

        name = f"folder {printable(Path(self.files).expanduser().resolve().name)}"
        return Found(name, identity, read, files.left_out, files.notes)

    def _split(self, paths: list[Path], labels: NDArray[np.int64]) -> OriginalSplit:
        """Images of a split, of files with these labels."""
        if self.frames == "first":
            return OriginalSplit(Files(paths), labels)
        frames = Frames(paths, [frames_in(path) for path in paths])
        return OriginalSplit(frames, labels[frames.files], frames.files)


def file_identity(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Returns path, size and modification time of files: what a cache takes as the same contents."""
    return [(os.path.abspath(path), *_size_and_time(path)) for path in paths]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # a link to nothing, or a file that a table names and that is not there
        return -1, -1
    return found.st_size, found.st_mtime_ns
