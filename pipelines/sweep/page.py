"""The page of a sweep: its table, and samples of each job beside its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.report.page import write_page
from pipelines.sweep.table import Row, Sweep, shortest, status, value_of


@dataclass(frozen=True)
class JobView:
    """A job as the page shows it.

    Attributes:
        number: Its number.
        best: Whether no job has a better value of the objective.
        values: Of the keys that differ between jobs.
        metrics: Of the metrics that are shown.
        description: Its keys and values in a line.
        objective: Its value of the objective; empty where it has none.
        status: How it fared, in a word.
        problem: Why it did not finish; empty where it did.
        report: Its report, relative to the page; empty where there is none.
        grid: Its samples; None where there are none.
    """

    number: int
    best: bool
    values: list[str]
    metrics: list[str]
    description: str
    objective: str
    status: str
    problem: str
    report: str
    grid: Path | None


def write_sweep_page(path: Path, sweep: Sweep) -> None:
    """Write the page of a sweep that has jobs, whole or not at all."""
    common = {key: value for key, value in sweep.rows[0].overrides.items() if key not in sweep.varied}
    write_page(
        path,
        "sweep.html",
        sweep=sweep,
        finished=sum(row.record.status == "finished" for row in sweep.rows),
        jobs=[view(sweep, row, best=place == 0) for place, row in enumerate(sweep.rows)],
        keys=shortest(sweep.varied),
        metrics=shortest(sweep.shown),
        constant=list(common.items()),
    )


def view(sweep: Sweep, row: Row, best: bool) -> JobView:
    """A job as the page shows it; ``best`` for the first of the table."""
    number = row.record.number
    folder = sweep.folder / str(number)
    pairs = zip(shortest(sweep.varied), sweep.varied, strict=True)
    grid, report = folder / "samples" / "grid.png", folder / "report.html"
    return JobView(
        number=number,
        best=best and sweep.objective in row.metrics,
        values=[row.overrides.get(key, "") for key in sweep.varied],
        metrics=[value_of(row, name) for name in sweep.shown],
        description=", ".join(f"{short} {row.overrides.get(key, '–')}" for short, key in pairs),
        objective=value_of(row, sweep.objective),
        status=row.record.status,
        problem="" if row.record.status == "finished" else status(row.record),
        report=f"{number}/report.html" if report.exists() else "",
        grid=grid if grid.exists() else None,
    )
