"""How a job of a sweep takes over what another has made: one makes it, others wait, files are hard links."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pipelines.artifacts.links import link_tree
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.distributed import collectives
from pipelines.distributed.locks import try_lock
from pipelines.tracking.csv import METRICS
from stage2_prior.code_store.manifest import digest_of

PAUSE = 0.5
"""Seconds between two looks at a lock that another job holds."""


def digest(plain: dict[str, Any]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of plain data."""
    return digest_of(plain)[:12]


def adopt(source: RunFolder, target: RunFolder, parts: Sequence[str]) -> None:
    """Take over parts of a run folder, files or folders, each whole or not at all; what is there stays."""
    if collectives.rank() == 0:
        for part in parts:
            if (source.path / part).exists() and not (target.path / part).exists():
                link_tree(source.path / part, target.path / part)
    collectives.barrier()


def copy_metrics(source: RunFolder, target: RunFolder) -> None:
    """Copy what a run logged, in place of what is there; it is no link, since a job appends to its own file."""
    if (source.path / METRICS).exists():
        (target.path / METRICS).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / METRICS, target.path / METRICS)


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for all processes of this command, once every other job has given it back.

    Args:
        path: The lock's file; it stays.
        what: What the other job is making, for the message.
    """
    waited = False
    while True:
        with try_lock(path) if collectives.rank() == 0 else nullcontext(False) as mine:
            # Asked again and again rather than waited for: a collective that waits for hours would time out.
            if collectives.on_any(mine):
                yield
                collectives.barrier()
                return
        if not waited:
            console.print(f"waiting for another job of the sweep: {what}")
            waited = True
        time.sleep(PAUSE)
