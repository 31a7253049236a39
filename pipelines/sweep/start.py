"""What happens when a command starts a sweep, before its first job."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import lazy_loader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, flag_override

from pipelines.config.overrides import key_of
from pipelines.config.redaction import redact
from pipelines.distributed import environment
from pipelines.distributed.environment import first_process
from pipelines.sweep.composition import composed_once
from pipelines.sweep.grid_order import grid_in_random_order
from pipelines.sweep.launch import Launch
from pipelines.sweep.records import read_records
from pipelines.sweep.threads import share_processors
from pipelines.tracking.metrics import DEFAULT, goal, objectives
from stage1_vqvae.files import read_yaml, write_yaml

if TYPE_CHECKING:
    from filelock import FileLock
filelock = lazy_loader.load("filelock")  # every command imports this module, few need locks

DIRECTIONS = {"min": "minimize", "max": "maximize"}
"""What sweepers call the way in which a metric is better."""


class SweepStart(Callback):
    """Hydra callback that knows the folder of the sweep that this process launches."""

    folder: Path | None = None
    lock: FileLock | None = None
    environment: Mapping[str, str] = MappingProxyType({})
    changes = ExitStack()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folder, and forget jobs that an earlier launch could not start.

        Raises:
            SystemExit: If several processes would each launch the sweep, or something is wrong with its keys or its
                sweeper's; Hydra swallows any other exception here.
        """
        if environment.started_elsewhere():
            message = (
                "error: -m: a sweep has one process that launches it, and torchrun or SLURM started several: start it "
                "by itself with hardware=ddp hardware.devices=N, on many machines with hydra/launcher=submitit_slurm"
            )
            if first_process():
                raise SystemExit(message)
            time.sleep(environment.PATIENCE)  # torchrun ends all as soon as one has ended
            raise SystemExit(1)
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        try:
            check_keys(overrides)
            prepare_search(config)
        except ValueError as error:
            raise SystemExit(f"error: {error}") from None
        Launch.of(config, overrides).begin()
        SweepStart.environment = share_processors(config.hydra)
        if config.get("prune"):
            SweepStart.changes.enter_context(grid_in_random_order())
        if runs_a_grid_here(config.hydra):
            SweepStart.changes.enter_context(composed_once())
        SweepStart.folder = Path(config.hydra.sweep.dir).absolute()
        if (SweepStart.folder / "jobs").exists():
            SweepStart.lock = lock_launch(SweepStart.folder)
            if SweepStart.lock is not None:
                forget_unstarted(SweepStart.folder)

    @classmethod
    def end(cls) -> Path | None:
        """End the launch; gives the folder of the sweep that this process launched, once, or None."""
        folder, cls.folder = cls.folder, None
        Launch.end()
        cls.changes.close()
        for name in cls.environment:
            os.environ.pop(name, None)
        cls.environment = MappingProxyType({})
        if cls.lock is not None:
            cls.lock.release()
            cls.lock = None
        return folder


def runs_a_grid_here(config: DictConfig) -> bool:
    """Whether all jobs of a sweep are known from the start and run in this process, one after another."""
    parts = ((config.sweeper, "BasicSweeper"), (config.launcher, "BasicLauncher"))
    return all(str(part._target_).endswith(name) for part, name in parts)


def check_keys(overrides: Sequence[Override]) -> None:
    """Check what a sweep's command line says of its keys.

    Raises:
        ValueError: If the jobs are to lie in folders of different names, or a key is swept and given again, of which
            some sweepers take the one and some the other.
    """
    swept = {override.key_or_group for override in overrides if override.is_sweep_override()}
    if "output" in swept:
        raise ValueError("output: a sweep has one folder, its jobs have numbered ones below it")
    given = Counter(override.key_or_group for override in overrides)
    if twice := sorted(key for key in swept if given[key] > 1):
        raise ValueError(f"{twice[0]} is given {given[twice[0]]} times: give the key that is swept over once")


def prepare_search(config: DictConfig) -> None:
    """Make a sweeper that looks for the best job go the right way, and go on after a job that failed.

    Raises:
        ValueError: If the sweeper's direction is not that of the objective.
    """
    sweeper = config.hydra.sweeper
    if "direction" in sweeper:
        names = objectives(config.get("objective")) or [DEFAULT[0]]
        wanted = [DIRECTIONS[goal(name) or "min"] for name in names]
        given = [sweeper.direction] if not isinstance(sweeper.direction, ListConfig) else list(sweeper.direction)
        given = [str(getattr(one, "name", one)) for one in given]
        if given != wanted:
            words = wanted[0] if len(wanted) == 1 else f"[{','.join(wanted)}]"
            raise ValueError(
                f"hydra.sweeper.direction={','.join(given)} is not the one of objective={','.join(names)}: "
                f"give hydra.sweeper.direction={words}"
            )
    if sweeper.get("storage") and sweeper.get("study_name"):
        count_trials(config)
    asked = [key_of(word) for word in config.hydra.overrides.hydra]
    if "max_failure_rate" in sweeper and "hydra.sweeper.max_failure_rate" not in asked:
        set_sweeper(config, "max_failure_rate", 1.0)  # the sweeper's own 0 ends the search with the first that fails


def count_trials(config: DictConfig) -> None:
    """Make a search that goes on with a stored study draw the trials that are left of ``n_trials``."""
    import optuna

    sweeper = config.hydra.sweeper
    try:
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:  # there is none yet
        return
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    set_sweeper(config, "n_trials", max(0, sweeper.n_trials - ended))


def set_sweeper(config: DictConfig, key: str, value: float) -> None:
    """Set a key of the sweeper, as if the command line had: jobs must have the same one."""
    words, sweeper = config.hydra.overrides.hydra, config.hydra.sweeper
    with ExitStack() as writable:
        for node in (config, words, sweeper):
            writable.enter_context(flag_override(node, "readonly", False))
        sweeper[key] = value
        words.append(f"hydra.sweeper.{key}={value}")


def lock_launch(sweep: Path) -> FileLock | None:
    """A lock that the first of several launches of a sweep holds until it ends; None for the others."""
    lock: FileLock = filelock.FileLock(sweep / "jobs" / "launch.lock", blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except (filelock.Timeout, OSError):  # also where the file system has no locks
        return None
    return lock


def forget_unstarted(sweep: Path) -> None:
    """Remove the records of jobs that left no folder, because something was wrong with their settings."""
    for record in read_records(sweep):
        if record.status in ("failed", "stopped") and not (sweep / str(record.number)).exists():
            record.forget(sweep)


def hide_secrets(sweep: Path) -> None:
    """Take secrets out of ``multirun.yaml``, where Hydra puts the sweep's whole command line as it was given."""
    path = sweep / "multirun.yaml"
    if path.exists():
        plain = read_yaml(path)
        hidden = redact(plain)
        if hidden != plain:
            write_yaml(path, hidden)
