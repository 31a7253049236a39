"""The chart of a sweep with several objectives: its jobs by the first two, and those that no other job beats."""

from __future__ import annotations

from collections.abc import Container

from pipelines.report.charts import Chart, Key, Place, scatter_chart
from pipelines.sweep.naming import label, value_of
from pipelines.sweep.outcomes import Row, Sweep, objectives_of


def pareto_chart(sweep: Sweep, efficient: Container[int]) -> Chart | None:
    """The jobs that finished by the first two objectives; None where there is one alone, or none finished.

    Args:
        sweep: Whose jobs.
        efficient: Numbers of those that no other job beats, by all objectives.
    """
    names = objectives_of(sweep.rows)
    rows = [row for row in sweep.rows if all(row.ranked(name) is not None for name in names)]
    if len(names) < 2 or not rows:
        return None
    first, second = names[:2]

    def place(row: Row) -> Place:
        told = label({key: row.values.get(key, "–") for key in sweep.varied})
        values = ", ".join(value_of(row, name) for name in names)
        tone = "a" if row.record.number in efficient else "faint"
        return Place(row.metrics[first], row.metrics[second], tone, f"job {row.record.number}: {values}; {told}")

    places = sorted(map(place, rows), key=lambda one: one.tone != "a")
    legend = (Key("no other job is better", "block", "a"), Key("others", "block", "faint"))
    return scatter_chart("Pareto", (first, second), places, legend)
