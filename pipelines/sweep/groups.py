"""Jobs of a sweep that differ in their seeds alone: means and standard deviations, and what is apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pipelines.sweep.outcomes import Row, Sweep
from pipelines.tracking.metrics import goal

SEEDS = ("seed", "stage1.seed", "stage2.seed")
"""Keys that make no other configuration, but a repetition of one."""

SIGNIFICANCE = 0.05
"""Means are apart if a difference like theirs has less than this probability where there is none."""


@dataclass(frozen=True)
class Spread:
    """A metric over the jobs of a group.

    Attributes:
        mean: Arithmetic mean.
        deviation: Sample standard deviation, over n - 1; None for one job.
        n: Number of jobs.
    """

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Group:
    """Jobs that differ in their seeds alone.

    Attributes:
        values: Of the keys that they have in common and that differ between groups.
        rows: The jobs, by number.
        metrics: Of the jobs that finished, by stage and name.
    """

    values: dict[str, str]
    rows: list[Row]
    metrics: dict[str, Spread]


def grouped(sweep: Sweep) -> list[Group]:
    """Groups of a sweep's jobs, the best mean of the objective first; empty where no two jobs differ in seeds alone."""
    keys = [key for key in sweep.varied if key not in SEEDS]
    found: dict[tuple[str | None, ...], list[Row]] = {}
    for row in sorted(sweep.rows, key=lambda row: row.record.number):
        found.setdefault(tuple(row.values.get(key) for key in keys), []).append(row)
    if all(len(rows) == 1 for rows in found.values()):
        return []
    groups = []
    for rows in found.values():
        values = {key: rows[0].values[key] for key in keys if key in rows[0].values}
        names = dict.fromkeys(name for row in rows for name in row.metrics)
        lists = {name: [value for row in rows if (value := row.ranked(name)) is not None] for name in names}
        groups.append(Group(values, rows, {name: Spread.of(some) for name, some in lists.items() if some}))
    sign = -1 if goal(sweep.objective) == "max" else 1

    def place(group: Group) -> tuple[float, int]:
        spread = group.metrics.get(sweep.objective)
        return (math.inf if spread is None else sign * spread.mean, group.rows[0].record.number)

    return sorted(groups, key=place)


def apart(one: Spread | None, other: Spread | None) -> bool | None:
    """Whether two means differ by more than chance, by Welch's t-test; None where that cannot be known.

    Args:
        one: Of a group; None where it has no value.
        other: Likewise.
    """
    if one is None or other is None or one.deviation is None or other.deviation is None:
        return None
    if one.deviation == other.deviation == 0:
        return one.mean != other.mean
    from scipy.stats import ttest_ind_from_stats

    moments = (one.mean, one.deviation, one.n, other.mean, other.deviation, other.n)
    return bool(ttest_ind_from_stats(*moments, equal_var=False).pvalue < SIGNIFICANCE)
