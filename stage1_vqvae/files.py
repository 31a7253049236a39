"""Files that are either whole or absent: written beside their target, flushed, and renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lazy_loader
import yaml

filelock = lazy_loader.load("filelock")  # which imports asyncio: commands that write nothing start sooner

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written. One that a killed process left is removed by the folder's next writer."""

LOCK = ".lock"
"""Suffix of the lock file beside a temporary file, which its writer holds for as long as it writes."""


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
    with _temporary_beside(path) as temporary:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        # Some libraries (safetensors) make files that only their owner can read.
        temporary.chmod(mode)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Give a name for a temporary file beside ``path`` that other writers leave alone, and remove it afterwards.

    The writer holds a lock file from before the temporary file exists until after it is gone. The system releases the
    lock when the process ends, however it ends. So a temporary file is an orphan if its lock can be taken.
    """
    _remove_orphans(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    lock = filelock.FileLock(f"{temporary}{LOCK}", fallback_to_soft=False)
    with contextlib.suppress(OSError):  # A file system without locks keeps its orphans: nobody can take theirs either.
        lock.acquire()
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # of a folder that cannot be written; the block's own error says so
            temporary.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _remove_orphans(folder: Path) -> None:
    """Remove the temporary files of writers that were killed, with their lock files."""
    names = {path.name.removesuffix(LOCK) for path in folder.glob(f"{TEMPORARY}*") if not path.is_dir()}
    for orphan in (folder / name for name in names):
        lock = filelock.FileLock(f"{orphan}{LOCK}", blocking=False, fallback_to_soft=False)
        # A temporary file without a lock file is an orphan too: its writer makes the lock file first.
        has_lock = Path(lock.lock_file).exists()
        with contextlib.suppress(OSError, filelock.Timeout), lock if has_lock else contextlib.nullcontext():
            orphan.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
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
        with _temporary_beside(folder / "probe") as probe:
            probe.touch(exist_ok=False)
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


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C takes a tenth of the time; PyYAML is also built without it."""


def read_yaml(path: str | Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        ValueError: If it is not YAML.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LOADER)
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
