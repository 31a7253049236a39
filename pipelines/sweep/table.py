"""The table of a sweep: every job's overrides and metrics, sorted, on the screen and as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from pipelines.artifacts.run_folder import RunFolder
from pipelines.report.formatting import number, percent
from pipelines.sweep.jobs import JobRecord, read_records
from pipelines.tracking.metrics import DEFAULT, final_metrics, goal

SHOWN = ("stage2.nats", "stage1.psnr", "stage1.usage")
"""Metrics on the screen and the page, beside the objective; the CSV has all."""


@dataclass(frozen=True)
class Row:
    """A job in the table.

    Attributes:
        record: How it fared.
        overrides: Values by key, of its command line.
        metrics: Of the finished models, by stage and name.
    """

    record: JobRecord
    overrides: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep's folder, the best first.

    Attributes:
        folder: Where the jobs' folders are.
        objective: The metric they are sorted by.
        rows: A row for each job; those without the metric come last.
    """

    folder: Path
    objective: str
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """What the jobs' folders say."""
        rows = [
            Row(record, split(record.overrides), final_metrics(RunFolder(folder / str(record.number))))
            for record in read_records(folder)
        ]
        asked = next((row.overrides["objective"] for row in rows if "objective" in row.overrides), "null")
        named = asked.strip("[]").split(",")[0].strip()
        found = {name for row in rows for name in row.metrics}
        objective = named if goal(named) else next((name for name in DEFAULT if name in found), DEFAULT[0])
        sign = -1 if goal(objective) == "max" else 1

        def place(row: Row) -> tuple[float, int]:
            value = sign * row.metrics.get(objective, math.nan)
            return (math.inf if math.isnan(value) else value, row.record.number)

        return cls(folder, objective, sorted(rows, key=place))

    @property
    def varied(self) -> list[str]:
        """Keys whose values differ between jobs."""
        keys = dict.fromkeys(key for row in self.rows for key in row.overrides)
        return [key for key in keys if len({row.overrides.get(key) for row in self.rows}) > 1]

    @property
    def shown(self) -> list[str]:
        """Metrics for a reader, the objective first."""
        found = {name for row in self.rows for name in row.metrics}
        return [name for name in dict.fromkeys([self.objective, *SHOWN]) if name in found]

    @property
    def order(self) -> str:
        """How the table is sorted, in words."""
        return f"{self.objective}, {'highest' if goal(self.objective) == 'max' else 'lowest'} first"


def split(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key of Hydra's overrides."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def as_table(sweep: Sweep) -> Table:
    """For the screen."""
    table = Table(
        title=f"{sweep.folder.name}: {sweep.order}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("job", justify="right")
    for key in shortest(sweep.varied):
        table.add_column(key, overflow="fold")
    for name in shortest(sweep.shown):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold")
    for row in sweep.rows:
        values = [row.overrides.get(key, "") for key in sweep.varied]
        numbers = [value_of(row, name) for name in sweep.shown]
        table.add_row(*map(Text, (str(row.record.number), *values, *numbers, status(row.record))))  # brackets stay
    return table


def value_of(row: Row, name: str) -> str:
    """A job's metric as people read it; empty where it has none."""
    if name not in row.metrics:
        return ""
    return (percent if name.startswith("stage1.usage") else number)(row.metrics[name])


def shortest(keys: Sequence[str]) -> list[str]:
    """Keys by their last part, or whole where another one ends alike."""
    last = [re.split(r"[./]", key)[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def status(record: JobRecord) -> str:
    """How a job fared, in words."""
    return f"{record.status}: {record.error}" if record.error else record.status


def as_csv(sweep: Sweep) -> str:
    """Every override and every metric of every job."""
    keys = list(dict.fromkeys(key for row in sweep.rows for key in row.overrides))
    names = sorted({name for row in sweep.rows for name in row.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, *names, "status", "seconds", "error"])
    for row in sweep.rows:
        record = row.record
        values = [row.overrides.get(key, "") for key in keys] + [row.metrics.get(name, "") for name in names]
        writer.writerow([record.number, *values, record.status, record.seconds, record.error])
    return text.getvalue()
