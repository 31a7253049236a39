"""The ``main`` of every command: configuration, checks, and one line for what is wrong.

Nothing here imports torch: help and mistakes in the command line come at once. What runs the task does, and is imported
when the settings are known to be right.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipelines.cli.arguments import (
    as_given,
    refuse_hydras_folders,
    refuse_nameless_options,
    refuse_unknown_flags,
    without_hyphens,
)
from pipelines.cli.mistakes import AlreadySaid, explain
from pipelines.cli.output import lasting_output
from pipelines.cli.signals import STOPPED, stoppable
from pipelines.config.conf import CONF, groups, options
from pipelines.config.hydra_versions import main_options, register_resolver
from pipelines.config.schema import check_settings
from pipelines.config.settings import Settings, plain_settings
from pipelines.distributed import environment
from pipelines.sweep.lines import first_line, last_line
from pipelines.sweep.places import place_job
from pipelines.sweep.pruned import JobPruned
from pipelines.sweep.records import JobFailed, RunsElsewhere, recorded
from pipelines.sweep.start import SweepStart, hide_secrets
from pipelines.tracking.metrics import objectives


def command(config_name: str, task: str) -> Callable[[], None]:
    """The ``main`` of a Hydra app that runs a task on every process of the command.

    A ValueError or OSError is the user's: it ends the command with one line and exit code 1, and with its traceback
    if ``debug=true``. In a sweep the other jobs go on.

    Args:
        config_name: The command's file in ``conf``.
        task: ``module:function``, called with the settings. It is imported when it is about to run.
    """

    def job(config: DictConfig) -> Any:
        sweep, start = None, time.monotonic()
        try:
            sweep = place_in_sweep(config)
            with recorded(sweep), told_apart():
                settings = checked_settings(config, config_name, sweep)
                trust_here(settings["trust"])
                made_by = {"command": name, "overrides": list(HydraConfig.get().overrides.task)}

                if sweep:
                    print(first_line(sweep), flush=True)
                from pipelines.cli.process import run_command  # imports torch

                value = run_command(task, {**settings, **made_by, "sweep": sweep})
            if sweep:
                print(last_line(sweep, "finished", value, time.monotonic() - start), flush=True)
            return value
        except JobPruned as pruned:
            if not sweep:
                raise SystemExit(f"ended early: {pruned}; stop_if=null goes on") from None
            print(last_line(sweep, f"pruned: {pruned}", None, time.monotonic() - start), flush=True)
            return pruned.value
        except RunsElsewhere as elsewhere:
            print(elsewhere, flush=True)
        except AlreadySaid:
            end_job("", sweep, bool(config.get("debug")))
        except (ValueError, OSError, OmegaConfBaseException) as error:
            end_job(f"error: {explain(error)}", sweep, bool(config.get("debug")))
        except Exception:
            if not in_sweep():
                raise
            end_job(traceback.format_exc(), sweep, debug=False)

    job.__name__ = name = task.partition(":")[2]
    app = hydra.main(**main_options(), config_path=str(CONF), config_name=config_name)(job)

    def main() -> None:
        with lasting_output(), stoppable():
            start(config_name, app)

    return main


def start(config_name: str, app: Callable[[], Any]) -> None:
    """Do what the command line asks for: run the app, or say what can be set.

    Raises:
        SystemExit: With what is wrong.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what is wrong; it is said here
    os.environ["VQVAE_PRIOR_TMP"] = str(environment.temporary_folder())  # for conf/hydra, also in jobs elsewhere
    sys.argv[1:] = as_given(without_hyphens(sys.argv[1:]))
    register_resolver("choices", choices)  # for the text of --help
    try:
        refuse_hydras_folders(sys.argv[1:])
        refuse_nameless_options(sys.argv[1:])
        if asked_for_info(sys.argv[1:]):
            from pipelines.cli.info import show_info  # imports rich

            show_info(config_name, sys.argv[1:])
        else:
            refuse_unknown_flags(sys.argv[1:])
            with groups_listed_once() if "--help" in sys.argv else nullcontext():
                app()
    except JobFailed:
        raise SystemExit(1) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise SystemExit(f"error: {explain(error)}") from None
    finally:
        conclude_sweep()


@contextmanager
def groups_listed_once() -> Iterator[None]:
    """Keep Hydra from its own lists of groups for --help, whose text has :func:`choices`.

    Hydra composes every group anew for them, twice, which takes longer than all else that --help does.
    """
    listed = Hydra.format_config_groups
    Hydra.format_config_groups = lambda *arguments, **named: ""  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.format_config_groups = listed  # type: ignore[method-assign]


def choices() -> str:
    """Every group with its options, a line each."""
    return "\n".join(f"{group}: {', '.join(options(group))}" for group in groups())


HYDRAS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra itself tells with ``--info``."""


def asked_for_info(arguments: Sequence[str]) -> bool:
    """Whether a command line asks what can be set."""
    if "--info" not in arguments:
        return False
    after = arguments[arguments.index("--info") + 1 :]
    return not (after and after[0] in HYDRAS)


def checked_settings(config: DictConfig, config_name: str, sweep: Mapping[str, Any] | None) -> Settings:
    """The settings of a job, of which all is known to be right that can be known without importing what they name.

    Args:
        config: As Hydra composed it.
        config_name: The command's file in ``conf``.
        sweep: The job's place in a sweep, of :func:`place_in_sweep`.

    Raises:
        ValueError: If a key or value is wrong.
    """
    settings = plain_settings(config)
    if in_sweep() and settings.get("output") is not None:
        number = sweep["number"] if sweep else HydraConfig.get().job.num
        settings["output"] = str(Path(settings["output"]) / str(number))
    check_settings(settings, config_name)
    objectives(settings.get("objective"))
    refuse_timed_output(config)
    return settings


@contextmanager
def told_apart() -> Iterator[None]:
    """Make a request to stop end the whole sweep, and any other exit from a job fail that job alone.

    Raises:
        SystemExit: If a process was asked to stop, or outside of a sweep.
        ValueError: If a job of a sweep exits by itself.
    """
    try:
        yield
    except SystemExit as error:
        if error.code in STOPPED or not in_sweep():
            raise
        raise ValueError(f"the job called sys.exit({error.code!r})") from error


def trust_here(packages: Sequence[str]) -> None:
    """Let trusted packages lie in the current folder, which console scripts do not look at."""
    if packages and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def end_job(message: str, sweep: Mapping[str, Any] | None, debug: bool) -> NoReturn:
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
        number = sweep["number"] if sweep else HydraConfig.get().job.num
        print(f"job {number}: {message}", file=sys.stderr, flush=True)
    raise JobFailed(message) from None


def conclude_sweep() -> None:
    """Print and write the table of the sweep that this process launched, if it did."""
    folder = SweepStart.end()
    if folder is not None and environment.first_process():
        from pipelines.sweep.results import write_results  # imports what draws the page

        hide_secrets(folder)
        write_results(folder)


def in_sweep() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def place_in_sweep(config: DictConfig) -> dict[str, Any] | None:
    """The place of this job in a sweep of training jobs; None for a job of another command, or outside of a sweep.

    Returns:
        ``folder`` of the sweep, ``number`` and ``overrides`` of the job; ``waits``: whether its outcome has to be
        waited for where another launch of the sweep runs it; and ``alone``: whether no other job runs meanwhile.
    """
    if not in_sweep() or "objective" not in config:
        return None
    known = HydraConfig.get()
    overrides = list(known.overrides.task)
    try:
        settings = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:  # it is said when the job starts
        settings = {"overrides": overrides}
    assert isinstance(settings, dict)
    named = {str(key): value for key, value in settings.items()}
    place = place_job(Path(config.output).absolute(), named, overrides, int(known.job.num))
    # Hydra's own sweeper asks for no value; others choose their next job by it.
    alone = str(known.launcher._target_).endswith("BasicLauncher")
    return {**place, "waits": not str(known.sweeper._target_).endswith("BasicSweeper"), "alone": alone}


def refuse_timed_output(config: DictConfig) -> None:
    """Raise ValueError if processes that were started apart would each write into a folder of its own time."""
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    if environment.started_elsewhere() and "${now:" in str(raw.get("output")):
        raise ValueError("output: processes that torchrun or SLURM started need one folder in common: give output=...")
