"""What came of the jobs of a sweep: their values, their metrics, and their order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.artifacts.models import codes_fingerprint
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.claims import Claim
from pipelines.sweep.places import WITHOUT_EFFECT
from pipelines.sweep.records import JobRecord, read_records
from pipelines.tasks.taken_tokenizer import with_tokenizer
from pipelines.tasks.train_stage1 import tokenizer_claim
from pipelines.tasks.train_stage2 import Part, part_claim, prior_sources
from pipelines.tracking.metrics import DEFAULT, final_metrics, goal
from stage1_vqvae.files import read_yaml

SHOWN = ("stage2.nats", "stage1.psnr", "stage1.usage")
"""Metrics on the screen and the page, beside the objective; the CSV has all."""


@dataclass(frozen=True)
class Row:
    """A job in the table.

    Attributes:
        record: How it fared.
        values: Of the keys that any job's command line sets, as text; a key that this job does not have is missing.
        metrics: Of the finished models that the job's settings made, by stage and name.
    """

    record: JobRecord
    values: dict[str, str]
    metrics: dict[str, float]

    @property
    def finished(self) -> bool:
        """Whether the job ended well; only then is it ranked."""
        return self.record.status == "finished"

    def ranked(self, metric: str) -> float | None:
        """The value by which the job is ranked; None for one that did not finish or has none."""
        value = self.metrics.get(metric, math.nan)
        return value if self.finished and not math.isnan(value) else None


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep's folder, the best first.

    Attributes:
        folder: Where the jobs' folders are.
        objective: The metric they are sorted by.
        rows: A row for each job; those that did not finish, or have no such metric, come last.
    """

    folder: Path
    objective: str
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """What the jobs' folders say."""
        records = read_records(folder)
        keys = list(dict.fromkeys(key for record in records for key in split(record.overrides)))
        known: Fingerprints = {}
        rows = [
            Row(record, values_of(record, keys), job_metrics(RunFolder(folder / str(record.number)), record, known))
            for record in records
        ]
        objective = objective_of(rows)
        sign = -1 if goal(objective) == "max" else 1

        def place(row: Row) -> tuple[float, int]:
            value = row.ranked(objective)
            return (math.inf if value is None else sign * value, row.record.number)

        return cls(folder, objective, sorted(rows, key=place))

    @property
    def keys(self) -> list[str]:
        """Keys that any job's command line sets."""
        return list(dict.fromkeys(key for row in self.rows for key in row.values))

    @property
    def varied(self) -> list[str]:
        """Keys whose values differ between jobs, of those that make another job."""
        telling = (key for key in self.keys if key.partition(".")[0] not in WITHOUT_EFFECT)
        return [key for key in telling if len({row.values.get(key) for row in self.rows}) > 1]

    @property
    def shown(self) -> list[str]:
        """Metrics for a reader, the objective first."""
        found = {name for row in self.rows for name in row.metrics}
        return [name for name in dict.fromkeys([self.objective, *objectives_of(self.rows), *SHOWN]) if name in found]

    @property
    def efficient(self) -> set[int]:
        """Numbers of the jobs that no other job beats, where there are several objectives; empty for one.

        A job beats another if it is at least as good by each objective, and better by one (Pareto).
        """
        names = objectives_of(self.rows)
        ranked = {row.record.number: [row.ranked(name) for name in names] for row in self.rows}
        signs = [-1 if goal(name) == "max" else 1 for name in names]
        costs = {
            number: [sign * value for sign, value in zip(signs, values, strict=True) if value is not None]
            for number, values in ranked.items()
        }
        costs = {number: values for number, values in costs.items() if len(values) == len(names) > 1}
        return {number for number, own in costs.items() if not any(beats(other, own) for other in costs.values())}

    @property
    def order(self) -> str:
        """How the table is sorted, in words."""
        return f"{self.objective}, {'highest' if goal(self.objective) == 'max' else 'lowest'} first"


def objectives_of(rows: Sequence[Row]) -> list[str]:
    """The metrics that were asked for as objectives."""
    asked = next((row.values["objective"] for row in rows if "objective" in row.values), "null")
    named = [name.strip("'\" ") for name in asked.strip("[]").split(",")]
    return [name for name in named if goal(name)]


def objective_of(rows: Sequence[Row]) -> str:
    """The metric that a sweep's jobs are sorted by: the first that was asked for, else the first default there is."""
    found = {name for row in rows for name in row.metrics}
    default = next((name for name in DEFAULT if name in found), DEFAULT[0])
    return next(iter(objectives_of(rows)), default)


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether costs are at most those of another job, and one of them is less."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def split(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key of Hydra's overrides."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def values_of(record: JobRecord, keys: Sequence[str]) -> dict[str, str]:
    """A job's values of keys as its settings have them, or, where a key is a group's, as its command line does."""
    written = split(record.overrides)
    found = {}
    for key in keys:
        setting = select(record.settings or {}, key)
        if setting is not None:
            found[key] = setting
        elif key in written:
            found[key] = written[key]
    return found


def select(settings: Mapping[str, Any], path: str) -> str | None:
    """The value below a dotted path as text; None where there is no plain value."""
    node: Any = settings
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return None if isinstance(node, Mapping) else node if isinstance(node, str) else json.dumps(node)


Fingerprints = dict[tuple[tuple[int, int, int], ...], str]
"""Fingerprints of models by device, inode and time of their files, of which jobs share many."""


def shared_fingerprint(folder: Path, known: Fingerprints) -> str:
    """The fingerprint of a tokenizer's codes, computed once for files that several folders have by hard links."""
    found = [(folder / name).stat() for name in ("config.yaml", "model.safetensors")]
    key = tuple((file.st_dev, file.st_ino, file.st_mtime_ns) for file in found)
    if key not in known:
        known[key] = codes_fingerprint(folder)
    return known[key]


def job_metrics(run: RunFolder, record: JobRecord, known: Fingerprints) -> dict[str, float]:
    """Metrics of the models in a job's folder, without those that other settings than the job's made.

    Args:
        run: The job's folder.
        record: How it fared.
        known: Fingerprints so far, to which new ones are added.
    """
    metrics = final_metrics(run)
    if not metrics or record.settings is None:  # which 0.1.0 did not keep
        return metrics if record.status == "finished" else {}
    try:
        settings = with_tokenizer({"trust": [], **record.settings, "overrides": record.overrides})
    except ValueError:  # the tokenizer that was taken is no longer where it was
        return {}
    made = {"stage1": is_made(tokenizer_claim(run, settings))}
    if "stage2" in settings and finished(run.tokenizer):
        sources = prior_sources(settings, shared_fingerprint(run.tokenizer, known))
        made["stage2"] = made["stage1"] and is_made(part_claim(Part.of(run, settings), run, sources, settings))
    return {name: value for name, value in metrics.items() if made.get(name.partition(".")[0])}


def is_made(claim: Claim) -> bool:
    """Whether the settings of a claim are those beside the product."""
    return claim.path.exists() and not claim.differences(read_yaml(claim.path))
