"""Locks between processes: one that is killed gives its locks back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Try to hold a lock for the duration of the block; gives whether it is held.

    The system releases the lock when the process ends, however it ends.

    Args:
        path: The lock's file. It stays there.

    Raises:
        OSError: If the file cannot be made, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    with suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()
