"""What happens when a command starts a sweep, before its first job."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pipelines.config.redaction import redact
from pipelines.distributed import environment
from pipelines.distributed.environment import first_process
from pipelines.sweep.records import read_records
from pipelines.sweep.threads import share_processors
from stage1_vqvae.files import read_yaml, write_yaml


class SweepStart(Callback):
    """Hydra callback that knows the folder of the sweep that this process launches."""

    folder: Path | None = None
    lock: FileLock | None = None
    environment: Mapping[str, str] = MappingProxyType({})

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folder, and forget jobs that an earlier launch could not start.

        Raises:
            SystemExit: If the jobs are to lie in folders of different names, or several processes would each launch
                the sweep; Hydra swallows any other exception here.
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
        for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
            if override.key_or_group == "output" and override.is_sweep_override():
                raise SystemExit("error: output: a sweep has one folder, its jobs have numbered ones below it")
        SweepStart.environment = share_processors(config.hydra)
        SweepStart.folder = Path(config.hydra.sweep.dir).absolute()
        if (SweepStart.folder / "jobs").exists():
            SweepStart.lock = lock_launch(SweepStart.folder)
            if SweepStart.lock is not None:
                forget_unstarted(SweepStart.folder)

    @classmethod
    def end(cls) -> Path | None:
        """End the launch; gives the folder of the sweep that this process launched, once, or None."""
        folder, cls.folder = cls.folder, None
        for name in cls.environment:
            os.environ.pop(name, None)
        cls.environment = MappingProxyType({})
        if cls.lock is not None:
            cls.lock.release()
            cls.lock = None
        return folder


def lock_launch(sweep: Path) -> FileLock | None:
    """A lock that the first of several launches of a sweep holds until it ends; None for the others."""
    lock = FileLock(sweep / "jobs" / "launch.lock", blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, OSError):  # also where the file system has no locks
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
