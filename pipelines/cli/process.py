"""What runs a command's task on all its processes. Importing this imports torch: the settings are checked before."""

from __future__ import annotations

import importlib
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines.budget.duration import refuse_budget
from pipelines.cli.console import console
from pipelines.cli.mistakes import AlreadySaid, one_line
from pipelines.cli.output import lasting_output
from pipelines.cli.signals import STOPPED, stoppable
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives, environment, launch
from pipelines.distributed.gpu_slots import gpu_slot
from pipelines.distributed.hardware import Hardware
from pipelines.distributed.run_lock import sole_user
from pipelines.distributed.threads import threads_each
from pipelines.publishing.hub import with_local_models
from pipelines.sweep.pruned import noting_pruned
from pipelines.sweep.records import note_error
from pipelines.tracking.metrics import objective_value
from stage1_vqvae.progress import Progress


def run_command(task: str, settings: Settings) -> Any:
    """Run a task as :func:`run_task` does; returns what a sweeper asks for, if anything.

    Raises:
        JobPruned: If a training ended early, as ``prune`` or ``stop_if`` asks for.
    """
    with noting_pruned(Path(settings["output"]), settings) if "stop_if" in settings else nullcontext():
        run_task(task, settings)
    return objective_value(settings) if "objective" in settings and environment.first_process() else None


def run_task(task: str, settings: Settings) -> Any:
    """Run a task on all processes of the command.

    Args:
        task: ``module:function``, called with the settings.
        settings: The command's.

    Returns:
        What the task returns on the first process.

    Raises:
        ValueError: If a setting is wrong.
        AlreadySaid: If another process failed, which has said why.
        SystemExit: If a process was asked to stop.
    """
    refuse_budget(task, settings)
    settings = with_local_models(settings)
    hardware: Hardware = build(settings["hardware"], "hardware")
    refuse_other_processes(hardware)
    if hardware.processes > 1 and not environment.started_elsewhere():
        threads = threads_each(hardware.processes)
        console.print(f"{hardware.processes} processes, {threads} {'thread' if threads == 1 else 'threads'} each")
    try:
        with gpu_slot(hardware):
            return launch.run_on_all(
                run_quietly, task, settings, processes=hardware.processes, device_type=hardware.device.type
            )
    except ProcessExitedException as error:
        if error.exit_code in STOPPED:
            raise SystemExit(error.exit_code) from None
        raise AlreadySaid from error


def refuse_other_processes(hardware: Hardware) -> None:
    """Raise ValueError unless the processes that there are, or can be started here, are those that are asked for."""
    asked, found = hardware.processes * hardware.num_nodes, environment.started_processes()
    if environment.started_elsewhere() and asked != found:
        raise ValueError(
            f"hardware: torchrun or SLURM started {found} processes, hardware.devices × hardware.num_nodes is {asked}: "
            "make them the same"
        )
    if not environment.started_elsewhere() and hardware.num_nodes > 1:
        raise ValueError(
            f"hardware.num_nodes={hardware.num_nodes}: torchrun or srun starts the processes of several machines; "
            "on this one alone hardware.num_nodes=1"
        )


def run_quietly(task: str, settings: Settings) -> Any:
    """Run the task on this process, without the libraries' chatter; what several processes find wrong is said once."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch")
    warnings.filterwarnings("ignore", message="guidance=")  # which commands say in a line of their own
    sweep: Any = settings.get("sweep")
    console.quiet = Progress.silent = collectives.rank() != 0
    console.job = Progress.job = f"job {sweep['number']}: " if sweep else ""
    Progress.lines_only = console.shared = bool(sweep) and not sweep["alone"]
    module, _, function = task.partition(":")
    called = getattr(importlib.import_module(module), function)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # which Lightning sets when it is imported
    try:
        with lasting_output(), stoppable(console.quiet), room_for_a_batch(settings), folder_in_use(settings, function):
            return called(settings)
    except (ValueError, OSError) as error:
        if collectives.ranks() == 1:
            raise
        if settings["debug"]:
            traceback.print_exc()
        if collectives.say_once(one_line(error)):
            note_error(sweep, one_line(error))
        os._exit(1)  # the others may be waiting in a collective that will never come
    finally:
        console.job = Progress.job = ""


def folder_in_use(settings: Settings, command: str) -> AbstractContextManager[None]:
    """Keep other commands out of the folder that this one writes to, where it is known beforehand."""
    output = settings.get("output")
    return sole_user(Path(output), command) if output else nullcontext()


@contextmanager
def room_for_a_batch(settings: Settings) -> Iterator[None]:
    """Say what to make smaller when memory runs out.

    Raises:
        ValueError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        sizes = {"batch_size": settings.get("batch_size")}
        sizes |= {
            f"{stage}.batch_size": settings[stage]["batch_size"] for stage in ("stage1", "stage2") if stage in settings
        }
        smaller = " or ".join(f"{key}={size // 2}" for key, size in sizes.items() if size and size > 1)
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"out of memory ({reason}): try {smaller or 'a smaller model'}; "
            "stage1.trainer.accumulate_grad_batches=2 (stage2 likewise) makes up for half the batch"
        ) from error
