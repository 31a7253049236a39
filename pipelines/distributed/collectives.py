"""How a command's processes agree: which rank each is, that all have arrived, that one has failed."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.distributed.environment import PATIENCE

Value = TypeVar("Value")

SAID = "what is wrong has been said"
"""A key of the store that the processes share."""


def rank() -> int:
    """This process's rank among all processes of the command; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes of the command; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every process has called this."""
    if dist.is_initialized():
        dist.barrier()


class LongWait:
    """A wait without end for the other processes, for work that takes one of them hours.

    Other collectives end a process that has waited for half an hour. Every process must make one, and soon after the
    others.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=365)) if dist.is_initialized() else None

    def until_all_arrive(self) -> None:
        """Wait until every process has called this."""
        if self._group is not None:
            dist.barrier(self._group)
            dist.destroy_process_group(self._group)


def from_first(value: Value) -> Value:
    """Return what the first process gives. Every process must call this."""
    if ranks() == 1:
        return value
    given = [value]
    dist.broadcast_object_list(given)
    return given[0]


def on_any(flag: bool) -> bool:
    """Whether the flag is set on any process. Every process must call this; all get the same answer."""
    if ranks() == 1:
        return flag
    device = torch.device("cpu") if dist.get_backend() == "gloo" else torch.accelerator.current_accelerator()
    flags = torch.tensor([flag], dtype=torch.uint8, device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def max_over_ranks(values: Tensor) -> Tensor:
    """Return the largest of each value over all processes; all of them ask, and none waits before it reads.

    Args:
        values: Any shape, on the device that the processes communicate from; overwritten.
    """
    if ranks() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def say_once(error: str) -> bool:
    """Print an error once, however many processes call this; returns whether this process printed it."""
    store = dist.distributed_c10d._get_default_store()
    if rank() == 0:
        print(f"error: {error}", file=sys.stderr, flush=True)
        store.set(SAID, "")
        return True
    # Not at once: torchrun ends all processes as soon as one has ended, the first one in the middle of its line.
    try:
        if _wait_until(lambda: store.check([SAID]), PATIENCE):
            return False
    except dist.DistNetworkError:  # the first process kept the store, and has ended
        return False
    print(f"error: process {rank()} on {socket.gethostname()}: {error}", file=sys.stderr, flush=True)
    return True


def _wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Wait for something to happen; returns whether it did in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
