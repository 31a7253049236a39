"""What every command has in common: its configuration, its processes, its way to say what is wrong."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from rich.console import Console
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines import processes
from pipelines.building import build, fits, name_of, suggestion
from pipelines.hardware import Hardware

Settings = dict[str, Any]
"""A command's whole configuration, resolved to plain data."""

KEYS: dict[str, Any] = {
    "output": str | None,
    "model": str,
    "images": str,
    "keep": str,
    "height": int | None,
    "width": int | None,
    "seed": int,
    "n": int,
    "label": int | str | list[int | str] | None,
    "batch_size": int,
    "trust": list[str],
    "debug": bool,
}
"""Types of the keys that read the same in every command; those of groups are their targets' signatures."""

console = Console(highlight=False, soft_wrap=True)


def command(config_name: str) -> Callable[[Callable[[Settings], Any]], Callable[[], None]]:
    """Make a Hydra app of a task: ``task(settings)`` runs on every process of the command.

    A ValueError or OSError is the user's: it ends the command with one line and exit code 1, and with its traceback
    if ``debug=true``. In a sweep the other jobs go on.

    Args:
        config_name: The command's file in ``conf``.
    """

    def decorate(task: Callable[[Settings], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def job(config: DictConfig) -> None:
            try:
                settings = plain(config)
                hardware: Hardware = build(settings["trainer"], "trainer")
                processes.run_on_all(run_quietly, task, settings, processes=hardware.processes)
            except ProcessExitedException:
                raise SystemExit(1) from None  # the process has said why
            except (ValueError, OSError, OmegaConfBaseException) as error:
                if config.get("debug"):
                    traceback.print_exc()
                raise SystemExit(f"error: {one_line(error)}") from None

        app = hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(job)

        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what is wrong; it is said here
            try:
                app()
            except (HydraException, OmegaConfBaseException) as error:
                raise SystemExit(f"error: {explain(error)}") from None

        return main

    return decorate


def explain(error: BaseException) -> str:
    """What Hydra found wrong with the command line, with the nearest key where one is unknown."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
            return (
                f"{cause.full_key}: no such key;{suggestion(str(cause.key), [str(key) for key in cause.parent_node])}"
            )
        cause = cause.__cause__
    return one_line(error)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def run_quietly(task: Callable[[Settings], Any], settings: Settings) -> None:
    """Run the task without the libraries' chatter; one rank's mistake is said once."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch")
    console.quiet = processes.rank() != 0
    try:
        task(settings)
    except (ValueError, OSError) as error:
        if processes.ranks() == 1:
            raise
        if settings["debug"]:
            traceback.print_exc()
        if processes.rank() == 0:
            print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # the others may be waiting in a collective that will never come


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
    for key, hint in KEYS.items():
        if key in settings and not fits(settings[key], hint):
            raise ValueError(f"{key}: {name_of(hint)} expected, got {settings[key]!r}")
    if settings.get("output") is not None:
        output = Path(settings["output"])
        hydra_config = HydraConfig.get()
        if hydra_config.mode == RunMode.MULTIRUN:
            output = output / str(hydra_config.job.num)
        settings["output"] = str(output.absolute())
    return {str(key): value for key, value in settings.items()}
