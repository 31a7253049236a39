"""A folder a second time, without the room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stage1_vqvae.files import TEMPORARY


def link_tree(source: Path, target: Path) -> None:
    """Make another folder of the same files, by hard links where the disk allows: files are replaced, never changed.

    Args:
        source: The folder.
        target: The other one, which is not there yet.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a job that was killed here
    shutil.copytree(source, temporary, copy_function=_link, ignore=shutil.ignore_patterns(f"{TEMPORARY}*"))
    temporary.rename(target)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
    return target
