"""One command at a time writes to a run's folder."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.distributed import collectives

RUN_LOCK = ".lock"
"""The lock file in a run's folder. It says who holds the lock."""

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that has no locks."""


@contextmanager
def sole_user(folder: Path, command: str) -> Iterator[None]:
    """Hold a run's folder for the duration of the block, for all processes of this command.

    Does nothing on a file system without locks. A folder that is still empty at the end is removed.

    Args:
        folder: Where the command writes.
        command: Its name, which another command is told.

    Raises:
        ValueError: If another command holds the folder.
        OSError: If the folder cannot be written.
    """
    lock = FileLock(folder / RUN_LOCK, blocking=False, fallback_to_soft=False)
    refused = _acquire(lock, folder, command) if collectives.rank() == 0 else None
    try:
        if collectives.on_any(refused is not None):
            raise ValueError(refused or f"{folder} is in use by another command")
        yield
    finally:
        if lock.is_locked:
            _release(lock, folder)


def _acquire(lock: FileLock, folder: Path, command: str) -> str | None:
    """Take the lock; returns what to tell the user if another command holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        return f"{folder} is in use by {_holder(folder)}: wait until it ends, or give another output="
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return None
        raise OSError(f"{folder} cannot be written ({error.strerror}): give another output=") from error
    holder = {"command": command, "process": os.getpid(), "host": socket.gethostname()}
    (folder / RUN_LOCK).write_text(json.dumps(holder | {"since": f"{datetime.now():%Y-%m-%d %H:%M}"}))
    return None


def _holder(folder: Path) -> str:
    """Who holds a folder, as its lock file says."""
    try:
        holder = json.loads((folder / RUN_LOCK).read_text())
        return "{command} (process {process} on {host}, since {since})".format(**holder)
    except (OSError, ValueError, KeyError):  # it is about to be written
        return "another command"


def _release(lock: FileLock, folder: Path) -> None:
    (folder / RUN_LOCK).unlink(missing_ok=True)
    lock.release()
    with suppress(OSError):  # something was made in it
        folder.rmdir()
