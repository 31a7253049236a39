"""What trackers know of a run: its stages, and the artifacts that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.config.overrides import key_of
from pipelines.config.redaction import redact
from pipelines.sweep.launch import Launch

LONGEST_NAME = 120
"""Characters of a job's name; trackers refuse names of more than 128."""


@dataclass(frozen=True)
class Job:
    """One stage of one run.

    Attributes:
        folder: The run's folder.
        stage: ``stage1``, ``extract``, ``stage2`` or ``sample``; ``stage2.0`` for the part of a prior of grid 0.
        group: Name that the stages of one run share, and all runs of one sweep.
        name: Name of the run, without its stage: its folder, or in a sweep also the job's overrides.
        config: The whole resolved configuration, plain data without secrets.
        primary: Whether this is the stage that a run of the command is judged by.
    """

    folder: Path
    stage: str
    group: str
    name: str
    config: Mapping[str, Any]
    primary: bool = False

    @property
    def kind(self) -> str:
        """The stage, without the number of a prior's part."""
        return self.stage.partition(".")[0]

    @classmethod
    def of(cls, folder: Path, stage: str, settings: Mapping[str, Any]) -> Job:
        """A stage of a command with these settings."""
        config = redact(settings)
        primary = stage.partition(".")[0] == _judged_stage(settings)
        sweep = config.get("sweep")
        if not sweep:
            return cls(folder, stage, folder.name, folder.name, config, primary)
        group = Path(sweep["folder"]).name
        return cls(folder, stage, group, _name_in_sweep(group, folder.name, sweep["overrides"]), config, primary)


def _name_in_sweep(sweep: str, job: str, overrides: Sequence[str]) -> str:
    """``lr-3 stage1.optimization.learning_rate=0.001``: the sweep, the job, and what it has of its own."""
    keys = Launch.current().keys
    common = ("output=", "experiment=", "objective=", "logger", "hardware")
    swept = [override for override in overrides if key_of(override) in keys]
    told = " ".join(swept or [override for override in overrides if not override.startswith(common)])
    return f"{sweep}-{job} {told}".strip()[:LONGEST_NAME]


def _judged_stage(settings: Mapping[str, Any]) -> str:
    """The stage whose metric is the objective; without an objective the last stage that the command trains."""
    objective = settings.get("objective")
    if objective:
        return str(objective if isinstance(objective, str) else objective[0]).partition(".")[0]
    return "stage1" if settings.get("command") in ("train_stage1", "train_decoder") else "stage2"


@dataclass(frozen=True)
class Artifact:
    """A product of a run, as lineage knows it.

    Attributes:
        kind: ``tokenizer``, ``codes``, ``prior`` or ``samples``.
        fingerprint: SHA-256 of its content, the one that its files carry.
        files: Files that are uploaded with it.
        metadata: Further facts about it.
    """

    kind: Literal["tokenizer", "codes", "prior", "samples"]
    fingerprint: str
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in every run that made or used it."""
        return f"{self.kind}-{self.fingerprint[:12]}"
