"""How each job of a sweep fares, kept outside of the job's own folder: one that cannot start is listed too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pipelines.config.redaction import redact
from pipelines.distributed import environment
from pipelines.distributed.environment import first_process
from stage1_vqvae.files import read_json, read_yaml, write_json, write_yaml

Status = Literal["running", "finished", "failed", "stopped"]


class JobFailed(RuntimeError):
    """A job of a sweep failed and has said why; the others go on."""


@dataclass(frozen=True)
class JobRecord:
    """How a job of a sweep fares.

    Attributes:
        number: Its number; its folder is ``folder/number``.
        overrides: What the command line says for this job.
        status: ``running`` also if it was killed.
        error: Why it failed, in a line.
        seconds: How long it took.
    """

    number: int
    overrides: list[str] = field(default_factory=list)
    status: Status = "running"
    error: str | None = None
    seconds: float | None = None

    def write(self, sweep: Path) -> None:
        """Keep it, in place of what was said of the job before."""
        write_json(sweep / "jobs" / f"{self.number}.json", asdict(self))


def read_records(sweep: Path) -> list[JobRecord]:
    """Records of the jobs of the last sweep into a folder, by number."""
    return [read_record(sweep, number) for number in _numbers(sweep / "jobs")]


def earlier_jobs(sweep: Path) -> list[int]:
    """Numbers of jobs that only an earlier sweep into the same folder had."""
    return sorted({*_numbers(sweep / "jobs" / "earlier")} - {*_numbers(sweep / "jobs")})


def set_aside(sweep: Path) -> None:
    """Keep the records of an earlier sweep into the same folder apart from those of the sweep that begins."""
    (sweep / "jobs" / "earlier").mkdir(parents=True, exist_ok=True)
    for number in _numbers(sweep / "jobs"):
        (sweep / "jobs" / f"{number}.json").replace(sweep / "jobs" / "earlier" / f"{number}.json")


def hide_secrets(sweep: Path) -> None:
    """Take secrets out of ``multirun.yaml``, where Hydra puts the sweep's whole command line as it was given."""
    path = sweep / "multirun.yaml"
    if path.exists():
        plain = read_yaml(path)
        hidden = redact(plain)
        if hidden != plain:
            write_yaml(path, hidden)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def read_record(sweep: Path, number: int) -> JobRecord:
    """The record of a job."""
    return JobRecord(**read_json(sweep / "jobs" / f"{number}.json"))


@contextmanager
def recorded(sweep: Mapping[str, Any] | None) -> Iterator[None]:
    """Keep how a job fares while the block runs; nothing outside of a sweep.

    Args:
        sweep: ``folder``, ``number`` and ``overrides`` of the job, or None.
    """
    if sweep is None or not first_process():
        yield
        return
    hide_secrets(Path(sweep["folder"]))
    folder, known = Path(sweep["folder"]), {"number": sweep["number"], "overrides": list(sweep["overrides"])}
    JobRecord(**known).write(folder)
    start = time.monotonic()
    status: Status = "failed"
    error = None
    try:
        yield
        status = "finished"
    except Exception as failure:
        error = " ".join(str(failure).split()) or type(failure).__name__
        raise
    except BaseException:  # a signal, or Ctrl-C
        status = "stopped"
        raise
    finally:
        error = read_record(folder, sweep["number"]).error or error  # what a process of the job said is more telling
        JobRecord(**known, status=status, error=error, seconds=time.monotonic() - start).write(folder)


def note_error(sweep: Mapping[str, Any] | None, error: str) -> None:
    """Keep why a job fails, on a process whose exception its parent will not see."""
    if sweep is not None:
        JobRecord(sweep["number"], list(sweep["overrides"]), "failed", error).write(Path(sweep["folder"]))


class SweepStart(Callback):
    """Hydra callback that knows the folder of the sweep that this process launches."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folder, and that what it says of jobs is of an earlier sweep.

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
        SweepStart.folder = Path(config.hydra.sweep.dir).absolute()
        if (SweepStart.folder / "jobs").exists():
            set_aside(SweepStart.folder)
