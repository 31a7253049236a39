"""The page of a sweep: its tables, learning curves, what mattered, and samples of each job beside its settings."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.report.page import write_page
from pipelines.sweep.curves import learning_curves
from pipelines.sweep.groups import Group
from pipelines.sweep.importance import importance
from pipelines.sweep.naming import label, shortest, spread_of, status, value_of
from pipelines.sweep.outcomes import Row, Sweep
from pipelines.sweep.pareto import pareto_chart
from pipelines.sweep.table import beside, seeds_of

PICTURES = 60
"""Jobs whose samples are shown; the best of more."""

INLINE = 12
"""Jobs whose samples are part of the page; the others' are read from their folders when they come into view."""


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
        efficient: Whether no other job beats it by several objectives.
        problem: Why it did not finish; empty where it did.
        report: Its report, relative to the page; empty where there is none.
        grid: Its samples; None where there are none.
        grid_file: The same relative to the page.
    """

    number: int
    best: bool
    values: list[str]
    metrics: list[str]
    description: str
    objective: str
    status: str
    efficient: bool
    problem: str
    report: str
    grid: Path | None
    grid_file: str


@dataclass(frozen=True)
class GroupView:
    """A group of jobs as the page shows it: values and metrics as text, its jobs, and whether it is apart."""

    best: bool
    values: list[str]
    metrics: list[str]
    seeds: str
    jobs: list[JobView]
    beside: str


def write_sweep_page(path: Path, sweep: Sweep, groups: Sequence[Group]) -> None:
    """Write the page of a sweep that has jobs, whole or not at all.

    Args:
        path: Of the page.
        sweep: What it shows.
        groups: Jobs that differ in their seeds alone, the best mean first; empty where there are none.
    """
    efficient = sweep.efficient
    jobs = {row.record.number: view(sweep, row, efficient) for row in sweep.rows}
    keys = list(dict.fromkeys(key for group in groups for key in group.values))
    write_page(
        path,
        "sweep.html",
        sweep=sweep,
        finished=sum(row.finished for row in sweep.rows),
        pruned=sum(row.record.status == "pruned" for row in sweep.rows),
        jobs=list(jobs.values()),
        keys=shortest(sweep.varied),
        metrics=shortest(sweep.shown),
        groups=[group_view(sweep, groups, group, keys, jobs) for group in groups],
        group_keys=shortest(keys),
        curves=learning_curves(sweep, groups),
        front=pareto_chart(sweep, efficient),
        importance=[(key, share) for key, share in importance(sweep).items()],
        pictures=[job for job in jobs.values() if job.grid or job.problem][:PICTURES],
        inline=INLINE,
        constant=[(key, sweep.rows[0].values.get(key, "")) for key in sweep.keys if key not in sweep.varied],
    )


def view(sweep: Sweep, row: Row, efficient: Container[int]) -> JobView:
    """A job as the page shows it, by the numbers of the jobs that no other one beats."""
    number = row.record.number
    folder = sweep.folder / str(number)
    grid, report = folder / "samples" / "grid.png", folder / "report.html"
    return JobView(
        number=number,
        best=row is sweep.rows[0] and row.ranked(sweep.objective) is not None,
        values=[row.values.get(key, "") for key in sweep.varied],
        metrics=[value_of(row, name) for name in sweep.shown],
        description=label({key: row.values.get(key, "–") for key in sweep.varied}),
        objective=value_of(row, sweep.objective),
        status=row.record.status,
        efficient=number in efficient,
        problem="" if row.finished else status(row.record),
        report=f"{number}/report.html" if report.exists() else "",
        grid=grid if grid.exists() and row.finished else None,
        grid_file=f"{number}/samples/grid.png",
    )


def group_view(
    sweep: Sweep, groups: Sequence[Group], group: Group, keys: Sequence[str], jobs: dict[int, JobView]
) -> GroupView:
    """A group as the page shows it."""
    return GroupView(
        best=group is groups[0] and sweep.objective in group.metrics,
        values=[group.values.get(key, "") for key in keys],
        metrics=[spread_of(group.metrics.get(name), name) for name in sweep.shown],
        seeds=seeds_of(group, sweep),
        jobs=[jobs[row.record.number] for row in group.rows],
        beside=beside(groups, group, sweep),
    )
