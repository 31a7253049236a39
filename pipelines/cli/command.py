"""What every command has in common: its configuration, its processes, its way to say what is wrong."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines.cli.console import console
from pipelines.cli.info import asked_for_info, show_info
from pipelines.cli.signals import STOPPED
from pipelines.config.instantiate import build, suggestion
from pipelines.config.redaction import redact
from pipelines.config.schema import check_keys, groups
from pipelines.config.settings import Settings
from pipelines.distributed import collectives, environment, launch
from pipelines.distributed.environment import first_process
from pipelines.distributed.gpu_slots import gpu_slot
from pipelines.distributed.hardware import Hardware
from pipelines.sweep.jobs import JobFailed, SweepStart, hide_secrets, note_error, recorded
from pipelines.tracking.metrics import objective_value, objectives


def command(config_name: str, task: str) -> Callable[[], None]:
    """The ``main`` of a Hydra app that runs a task on every process of the command.

    A ValueError or OSError is the user's: it ends the command with one line and exit code 1, and with its traceback
    if ``debug=true``. In a sweep the other jobs go on.

    Args:
        config_name: The command's file in ``conf``.
        task: ``module:function``, called with the settings. It is imported when it is about to run.
    """

    def job(config: DictConfig) -> Any:
        try:
            sweep = place_in_sweep(config)
            with recorded(sweep), told_apart():
                settings = plain(config)
                check_keys(settings, config_name)
                refuse_timed_output(config)
                overrides = list(HydraConfig.get().overrides.task)
                command_name = task.partition(":")[2]
                return run_job(task, {**settings, "sweep": sweep, "overrides": overrides, "command": command_name})
        except ProcessExitedException:
            end_job("", bool(config.get("debug")))  # the process has said why
        except (ValueError, OSError, OmegaConfBaseException) as error:
            end_job(f"error: {one_line(error)}", bool(config.get("debug")))
        except Exception:
            if not in_sweep():
                raise
            end_job(traceback.format_exc(), debug=False)

    # Hydra reads both: the job's name, and where a configuration would lie that is not absolute.
    job.__name__ = task.partition(":")[2]
    app = hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(job)

    def main() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what is wrong; it is said here
        try:
            if asked_for_info(sys.argv[1:]):
                show_info(config_name, sys.argv[1:])
            else:
                app()
        except JobFailed:
            raise SystemExit(1) from None
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise SystemExit(f"error: {explain(error)}") from None
        finally:
            conclude_sweep()

    return main


@contextmanager
def told_apart() -> Iterator[None]:
    """Make a request to stop end the whole sweep, and any other exit from a job fail that job alone.

    Raises:
        SystemExit: If this process or one that it spawned was asked to stop, or outside of a sweep.
        ValueError: If a job of a sweep exits by itself.
    """
    try:
        yield
    except ProcessExitedException as error:
        if error.exit_code in STOPPED:
            raise SystemExit(error.exit_code) from None
        raise
    except SystemExit as error:
        if error.code in STOPPED or not in_sweep():
            raise
        raise ValueError(f"the job called sys.exit({error.code!r})") from error


def run_job(task: str, settings: Settings) -> Any:
    """Run a command's task on all its processes; returns what a sweeper wants to know, if anything.

    Raises:
        ValueError: If a setting is wrong.
    """
    trust_here(settings["trust"])
    objectives(settings.get("objective"))
    hardware: Hardware = build(settings["hardware"], "hardware")
    refuse_other_processes(hardware)
    with gpu_slot(hardware):
        launch.run_on_all(run_quietly, task, settings, processes=hardware.processes)
    return objective_value(settings) if "objective" in settings and first_process() else None


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


def trust_here(packages: Sequence[str]) -> None:
    """Let trusted packages lie in the current folder, which console scripts do not look at."""
    if packages and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def end_job(message: str, debug: bool) -> NoReturn:
    """Say what is wrong and end the job; in a sweep the others go on.

    Raises:
        JobFailed: In a sweep.
        SystemExit: Otherwise.
    """
    if debug:
        traceback.print_exc()
    if not in_sweep():
        raise SystemExit(message or 1) from None
    if message:
        print(f"job {HydraConfig.get().job.num}: {message}", file=sys.stderr, flush=True)
    raise JobFailed(message) from None


def conclude_sweep() -> None:
    """Print and write the table of the sweep that this process launched, if it did."""
    if SweepStart.folder is not None and first_process():
        from pipelines.sweep.results import write_results

        folder, SweepStart.folder = SweepStart.folder, None
        hide_secrets(folder)
        write_results(folder)


def explain(error: BaseException) -> str:
    """What Hydra found wrong with the command line, with the nearest key where one is unknown."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
            key, valid = str(cause.key), [str(key) for key in cause.parent_node]
            if "/" in key:  # a group's name, that Hydra looks for among the keys when there is no such group
                valid = groups()
            return f"{cause.full_key}: no such key;{suggestion(key, valid)}"
        cause = cause.__cause__
    return one_line(error)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def run_quietly(task: str, settings: Settings) -> None:
    """Run the task, ``module:function``, without the libraries' chatter; one rank's mistake is said once."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch")
    console.quiet = collectives.rank() != 0
    module, _, function = task.partition(":")
    try:
        with room_for_a_batch(settings):
            getattr(importlib.import_module(module), function)(settings)
    except (ValueError, OSError) as error:
        if collectives.ranks() == 1:
            raise
        if settings["debug"]:
            traceback.print_exc()
        if collectives.say_once(one_line(error)):
            note_error(settings.get("sweep"), one_line(error))
        os._exit(1)  # the others may be waiting in a collective that will never come


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


def plain(config: DictConfig) -> Settings:
    """The configuration as plain data, with ``output`` where this job writes, as an absolute path.

    Raises:
        ValueError: If a value is missing or of a wrong type.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))}: a value is needed, e.g. {min(missing)}=...")
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    if settings.get("output") is not None:
        output = Path(settings["output"])
        if in_sweep():
            output = output / str(HydraConfig.get().job.num)
        settings["output"] = str(output.absolute())
    return {str(key): value for key, value in settings.items()}


def in_sweep() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def place_in_sweep(config: DictConfig) -> dict[str, Any] | None:
    """Folder of the sweep of training jobs that this job is one of, and its number and overrides; None for another."""
    if not in_sweep() or "objective" not in config:
        return None
    known = HydraConfig.get()
    folder = str(Path(config.output).absolute())
    return {"folder": folder, "number": int(known.job.num), "overrides": redact(list(known.overrides.task))}


def refuse_timed_output(config: DictConfig) -> None:
    """Raise ValueError if processes that were started apart would each write into a folder of its own time."""
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    if environment.started_elsewhere() and "${now:" in str(raw.get("output")):
        raise ValueError("output: processes that torchrun or SLURM started need one folder in common: give output=...")
