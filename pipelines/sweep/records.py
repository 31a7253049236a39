"""How each job of a sweep fares, kept outside of the job's own folder, so that one that cannot start is listed too."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.distributed.environment import first_process
from pipelines.distributed.locks import try_lock
from pipelines.sweep.launch import Launch
from pipelines.sweep.pruned import JobPruned
from stage1_vqvae.files import read_json, write_json

PAUSE = 0.5
"""Seconds between two looks at a job that another launch of the sweep runs."""

Status = Literal["running", "finished", "pruned", "failed", "stopped"]


class JobFailed(RuntimeError):
    """A job of a sweep failed and has said why; the others go on."""


class RunsElsewhere(RuntimeError):
    """Another launch of the same sweep runs the job at this moment."""


@dataclass(frozen=True)
class JobRecord:
    """How a job of a sweep fares.

    Attributes:
        number: Its number; its folder is ``folder/number``.
        overrides: What the command line says for this job.
        status: ``running`` also if it was killed; ``pruned`` if it ended early since it was not good enough.
        error: Why it failed or was pruned, in a line.
        seconds: How long it took, over all its starts but those that were killed.
        settings: Its whole configuration without secrets; None in records of version 0.1.0.
        digest: Of the settings that tell jobs apart, see :func:`pipelines.sweep.places.digest_of_job`.
        version: Of the project, which made the digest.
        holder: The process that runs it, or ran it last.
        passes: Seconds of each time that it ended, by the name of the launch. A search may come to a job twice.
    """

    number: int
    overrides: list[str] = field(default_factory=list)
    status: Status = "running"
    error: str | None = None
    seconds: float | None = None
    settings: dict[str, Any] | None = None
    digest: str = ""
    version: str = ""
    holder: str = ""
    passes: dict[str, list[float]] = field(default_factory=dict)

    def write(self, sweep: Path) -> None:
        """Write the record of a sweep's job, in place of an earlier one."""
        write_json(sweep / "jobs" / f"{self.number}.json", asdict(self))

    def forget(self, sweep: Path) -> None:
        """Remove the record."""
        (sweep / "jobs" / f"{self.number}.json").unlink(missing_ok=True)


def read_records(sweep: Path) -> list[JobRecord]:
    """Records of all jobs in a sweep's folder, by number."""
    numbers = sorted(int(path.stem) for path in (sweep / "jobs").glob("[0-9]*.json"))
    return [read_record(sweep, number) for number in numbers]


def read_record(sweep: Path, number: int) -> JobRecord:
    """The record of a job, without what another version wrote more."""
    found = read_json(sweep / "jobs" / f"{number}.json")
    return JobRecord(**{one.name: found[one.name] for one in fields(JobRecord) if one.name in found})


@contextmanager
def recorded(sweep: Mapping[str, Any] | None) -> Iterator[None]:
    """Keep how a job fares while the block runs; nothing outside of a sweep.

    The job is locked meanwhile, so that of several launches of one sweep each job is run by one.

    Args:
        sweep: What :func:`pipelines.sweep.places.place_job` gave, or None.

    Raises:
        RunsElsewhere: If another launch runs the job, and its outcome is not waited for.
    """
    if sweep is None or not first_process():
        yield
        return
    folder = Path(sweep["folder"])
    with _held(folder, sweep["number"], sweep["waits"]):
        before = read_record(folder, sweep["number"])
        # Of a job that is finished it is only found out that nothing is left to do: it stays one meanwhile.
        status: Status = "finished" if before.status == "finished" else "running"
        running = replace(before, status=status, error=None, holder=_this_process())
        running.write(folder)
        start = time.monotonic()
        status, error = "failed", None
        try:
            yield
            status = "finished"
        except JobPruned as pruned:
            status, error = "pruned", str(pruned)
            raise
        except Exception as failure:
            error = _one_line(failure) or _one_line(failure.__cause__) or type(failure).__name__
            raise
        except BaseException:  # a signal, or Ctrl-C
            status = "stopped"
            raise
        finally:
            error = read_record(folder, sweep["number"]).error or error  # what a process of the job said says more
            worked = time.monotonic() - start
            seconds = (before.seconds or 0.0) + worked
            if before.status == status == "finished":  # nothing was left to do
                seconds = before.seconds or 0.0
            launch = Launch.current().name
            passes = {**before.passes, launch: [*before.passes.get(launch, []), worked]}
            replace(running, status=status, error=error, seconds=seconds, passes=passes).write(folder)


@contextmanager
def _held(folder: Path, number: int, waits: bool) -> Iterator[None]:
    """Hold the lock of a job.

    Args:
        folder: Of the sweep.
        number: Of the job.
        waits: Whether to wait where another process holds it.

    Raises:
        RunsElsewhere: If another process holds it, and it is not waited for.
    """
    while True:
        with try_lock(folder / "jobs" / f"{number}.lock") as mine:
            if mine:
                yield
                return
        if not waits:
            holder = read_record(folder, number).holder
            raise RunsElsewhere(f"job {number}: another launch of this sweep runs it ({holder})")
        time.sleep(PAUSE)


def _one_line(error: BaseException | None) -> str:
    return "" if error is None else " ".join(str(error).split())


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def note_error(sweep: Mapping[str, Any] | None, error: str) -> None:
    """Keep why a job fails, on a process whose exception its parent will not see."""
    if sweep is not None:
        record = read_record(Path(sweep["folder"]), sweep["number"])
        replace(record, status="failed", error=error).write(Path(sweep["folder"]))
