"""The table of a sweep on the screen and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from pipelines.sweep.groups import Group, apart
from pipelines.sweep.naming import shortest, spread_of, status, value_of
from pipelines.sweep.outcomes import Sweep


def job_table(sweep: Sweep) -> Table:
    """The jobs, for the screen."""
    table = _table(f"{sweep.folder.name}: {sweep.order}")
    table.add_column("job", justify="right")
    _add_columns(table, sweep.varied, sweep.shown)
    efficient = sweep.efficient
    if efficient:
        table.add_column("Pareto")
    table.add_column("status", overflow="fold")
    for row in sweep.rows:
        number = row.record.number
        values = [row.values.get(key, "") for key in sweep.varied]
        numbers = [value_of(row, name) for name in sweep.shown]
        marks = ["yes" if number in efficient else ""] if efficient else []
        table.add_row(*map(Text, (str(number), *values, *numbers, *marks, status(row.record))))  # brackets stay
    return table


def group_table(sweep: Sweep, groups: Sequence[Group]) -> Table:
    """The groups of jobs that differ in their seeds alone, for the screen: mean ± standard deviation."""
    table = _table(f"{sweep.folder.name}: mean ± standard deviation over seeds, {sweep.order}")
    keys = list(dict.fromkeys(key for group in groups for key in group.values))
    _add_columns(table, keys, sweep.shown)
    for title in ("seeds", "jobs", "vs first"):
        table.add_column(title, overflow="fold")
    for group in groups:
        values = [group.values.get(key, "") for key in keys]
        numbers = [spread_of(group.metrics.get(name), name) for name in sweep.shown]
        remarks = (seeds_of(group, sweep), jobs_of(group), beside(groups, group, sweep))
        table.add_row(*map(Text, (*values, *numbers, *remarks)))
    return table


def seeds_of(group: Group, sweep: Sweep) -> str:
    """How many jobs of a group its mean is of, and of how many there are where some did not finish."""
    spread = group.metrics.get(sweep.objective)
    n = spread.n if spread else 0
    return str(n) if n == len(group.rows) else f"{n} of {len(group.rows)}"


def jobs_of(group: Group) -> str:
    """Numbers of a group's jobs."""
    return " ".join(str(row.record.number) for row in group.rows)


def beside(groups: Sequence[Group], group: Group, sweep: Sweep) -> str:
    """Whether a group's mean of the objective is apart from that of the first; empty where it cannot be known."""
    if group is groups[0]:
        return ""
    known = apart(groups[0].metrics.get(sweep.objective), group.metrics.get(sweep.objective))
    return {None: "", True: "apart", False: "not apart"}[known]


def as_csv(sweep: Sweep) -> str:
    """Every value and every metric of every job."""
    names = sorted({name for row in sweep.rows for name in row.metrics})
    efficient = sweep.efficient
    mark = ["pareto"] if efficient else []
    rows: list[list[object]] = [["job", *sweep.keys, *names, *mark, "status", "seconds", "error"]]
    for row in sweep.rows:
        record = row.record
        values = [row.values.get(key, "") for key in sweep.keys]
        metrics = [row.metrics.get(name, "") for name in names]
        marks = [int(record.number in efficient) for _ in mark]
        rows.append([record.number, *values, *metrics, *marks, record.status, record.seconds, record.error])
    return _csv(rows)


def groups_as_csv(groups: Sequence[Group]) -> str:
    """Number of jobs, mean and standard deviation of every metric of every group."""
    keys = list(dict.fromkeys(key for group in groups for key in group.values))
    names = sorted({name for group in groups for name in group.metrics})
    rows: list[list[object]] = [[*keys, *(f"{name} {part}" for name in names for part in ("n", "mean", "std")), "jobs"]]
    for group in groups:
        values: list[object] = [group.values.get(key, "") for key in keys]
        for name in names:
            spread = group.metrics.get(name)
            values += [spread.n, spread.mean, spread.deviation] if spread else [0, "", ""]
        rows.append([*values, jobs_of(group)])
    return _csv(rows)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _add_columns(table: Table, keys: Sequence[str], metrics: Sequence[str]) -> None:
    for key in shortest(keys):
        table.add_column(key, overflow="fold")
    for name in shortest(metrics):
        table.add_column(name, justify="right", no_wrap=True)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
