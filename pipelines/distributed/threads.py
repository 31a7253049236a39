"""Threads of processes that share a machine: together no more than it has processors."""

from __future__ import annotations

import os

from stage1_vqvae.processors import processors


def threads_each(processes: int) -> int:
    """Threads that each of several processes on this machine computes with.

    ``OMP_NUM_THREADS`` is respected. Otherwise the processes share the processors: two processes that each compute
    with all of them wait for each other most of the time.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) > 0 else max(1, processors() // processes)
