"""Files that are either whole or absent: written beside their target, flushed, and renamed into place."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written. One that a killed process left is removed by the folder's next writer."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write; once the block ends well, that file takes the place of ``path``.

    Whoever reads ``path``, also after a kill or a power cut, finds the old file or the new one, whole. When
    the block raises, the temporary file is removed and the old file stays. Any number of processes may write
    into one folder; of two that write one ``path`` the later wins. The folder is created where it is missing.

    Args:
        path: The file to write. Its temporary name keeps the suffix, which some writers look at.

    Raises:
        OSError: If the folder cannot be written or is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    with _writing_in(path.parent) as folder:
        try:
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            yield temporary
            # Some libraries (safetensors) make files that only their owner can read.
            temporary.chmod(mode)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        os.fsync(folder)


@contextlib.contextmanager
def _writing_in(folder: Path) -> Iterator[int]:
    """Hold the folder as one of its writers, after removing what killed ones left; gives its descriptor.

    A writer holds a shared lock on the folder, which ends with its process. So whoever gets the exclusive
    lock is alone, and every temporary file is an orphan. A file system without locks keeps its orphans: each
    has a name of its own, and none is in the way.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for orphan in folder.glob(f"{TEMPORARY}*"):
                orphan.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def check_writable(folder: str | Path, room: int) -> None:
    """Find out before the work starts whether its results can be written; removes what killed writers left.

    Args:
        folder: Created where it is missing.
        room: Bytes that are going to be written.

    Raises:
        OSError: If the folder cannot be written or its disk has less room.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _writing_in(folder):
            probe = folder / f"{TEMPORARY}{secrets.token_hex(6)}"
            probe.touch(exist_ok=False)
            probe.unlink()
    except OSError as error:
        raise OSError(f"{folder} cannot be written ({error.strerror}): give another output=") from error
    free = shutil.disk_usage(folder).free
    if free < room:
        raise OSError(
            f"{folder}: {room / 2**30:.2g} GiB are needed, its disk has {free / 2**30:.2g} free: "
            "make room, or give another output="
        )


def write_json(path: str | Path, plain: Any) -> None:
    """Write plain data as indented JSON, whole or not at all (see :func:`replacing`)."""
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The plain data in a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def read_yaml(path: str | Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        ValueError: If it is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def write_yaml(path: str | Path, plain: Any) -> None:
    """Write plain data, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
