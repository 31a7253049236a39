"""One command on many processes: several on this machine, or those that torchrun or SLURM started."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, spawn

from pipelines.cli.signals import SIGNALS
from pipelines.distributed.environment import started_elsewhere
from pipelines.distributed.threads import threads_each

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others; a rank that works alone (on the report, say) may take minutes."""

GRACE = 10.0
"""Seconds that the other processes have to end by themselves after one failed, and again after SIGTERM."""

KEEPERS = ("torch.distributed.fsdp.sharded_grad_scaler", "torch.distributed.nn", "torch.distributed.optim")
"""Modules that keep the process group that there is when they are first imported, as a default of their functions."""


def run_on_all(task: Callable[..., Any], *arguments: Any, processes: int, device_type: str = "cpu") -> Any:
    """Run ``task(*arguments)`` on every process of the command, in one process group.

    Under torchrun or SLURM the processes exist already and this is one of them. Otherwise, for more than one, they
    are spawned here: their environment is theirs alone, they know nothing of the command line, signals to this
    process are passed on to them, and the first that fails or is killed ends the others.

    Args:
        task: A function of a module, so that a new process finds it.
        arguments: Plain data.
        processes: Processes on this machine.
        device_type: What each process computes on, as torch names it: ``cpu``, ``cuda``, ...

    Returns:
        What the task returns on the first process; from a process that is spawned here at most some kilobytes.
    """
    if started_elsewhere():
        with process_group(device_type):
            return task(*arguments)
    if processes == 1:
        return task(*arguments)
    results = get_context("spawn").SimpleQueue()
    with _meeting_point() as port:
        spawned = Spawn(processes, port, threads_each(processes), device_type)
        _wait_for(spawn(_spawned, args=(spawned, results, task, arguments), nprocs=processes, join=False))
    return results.get()


@dataclass(frozen=True)
class Spawn:
    """What a spawned process has to know.

    Attributes:
        processes: Number of processes.
        port: Where they find each other.
        threads: Threads of each.
        device_type: What each computes on.
    """

    processes: int
    port: int
    threads: int
    device_type: str


@contextmanager
def _meeting_point() -> Iterator[int]:
    """A port of this process where those that it starts find each other.

    It is held from the start: one that is only known to be free may be another's by the time they listen.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    try:
        yield int(store.port)
    finally:
        # Not left to a traceback that holds this frame: a later process, forked from this one, would collect the
        # store and wait for its thread, which no fork has.
        del store


def _wait_for(context: ProcessContext) -> None:
    """Wait for spawned processes; after the first that failed the others have twice the grace to end."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)

    in_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    before = {number: signal.signal(number, pass_on) for number in SIGNALS if in_main}
    try:
        while not context.join(grace_period=GRACE):
            pass
    except ProcessExitedException as error:
        if error.signal_name:
            print(
                f"error: process {error.error_index} of {len(context.processes)} was ended by {error.signal_name}: "
                "give the same command again, it goes on from what is finished",
                file=sys.stderr,
                flush=True,
            )
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def process_group(device_type: str = "cpu") -> Iterator[None]:
    """The process group of the launcher's environment, for the duration of the block.

    Its threads end with it: a thread that releases a tensor while the interpreter exits would abort the process.

    Args:
        device_type: What each process computes on. Of an accelerator, each process of a machine takes one.
    """
    if "RANK" not in os.environ:
        _from_slurm(os.environ)
    for module in KEEPERS:
        importlib.import_module(module)  # while there is no group to keep
    if device_type != "cpu":
        # Modulo, because some launchers show each process its own accelerator alone.
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)) % torch.accelerator.device_count())
    backend = dist.Backend.default_device_backend_map.get(device_type, "gloo")
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()
        gc.collect()  # a trainer and its model, which hold the group, refer to each other


def _spawned(
    local_rank: int, spawned: Spawn, results: SimpleQueue[Any], task: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        RANK=str(local_rank),
        LOCAL_RANK=str(local_rank),
        WORLD_SIZE=str(spawned.processes),
        LOCAL_WORLD_SIZE=str(spawned.processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(spawned.port),
        TORCHELASTIC_RUN_ID="spawned",  # Lightning takes the processes as they are
        TORCHELASTIC_USE_AGENT_STORE="True",  # the parent's, where they find each other
    )
    torch.set_num_threads(spawned.threads)
    with process_group(spawned.device_type):
        result = task(*arguments)
    if local_rank == 0:
        results.put(result)


def _from_slurm(environment: Any) -> None:
    """Set torchrun's variables from those of srun."""
    first_host = environment.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    environment.update(
        RANK=environment["SLURM_PROCID"],
        LOCAL_RANK=environment["SLURM_LOCALID"],
        WORLD_SIZE=environment["SLURM_NTASKS"],
        MASTER_ADDR=environment.get("MASTER_ADDR", first_host),
        # Every process of a job finds the same port, two jobs on a node different ones.
        MASTER_PORT=environment.get("MASTER_PORT", str(15000 + int(environment["SLURM_JOB_ID"]) % 20000)),
    )
