"""Learning curves of a sweep: the objective over steps, the mean of each group of seeds and the band that it covers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from pipelines.report.charts import Chart, Curve, line_chart
from pipelines.report.training import trained
from pipelines.sweep.groups import Group
from pipelines.sweep.naming import label
from pipelines.sweep.outcomes import Row, Sweep
from pipelines.tracking.csv import read_metrics

TONES = ("a", "b", "c")
"""Colours of the best; the others are faint."""

MOST = 40
"""Curves that can be told apart at all; the best of more are drawn."""


def learning_curves(sweep: Sweep, groups: Sequence[Group]) -> Chart | None:
    """The chart of the objective over steps; None where nothing was logged.

    Args:
        sweep: Whose jobs.
        groups: Of jobs that differ in their seeds alone, the best first; empty where there are none.
    """
    parts = [(label(group.values), group.rows) for group in groups]
    parts = parts or [(f"job {row.record.number}", [row]) for row in sweep.rows]
    drawn = ("finished",) if groups else ("finished", "pruned")  # a mean is of whole curves
    curves: list[Curve] = []
    for name, rows in parts[:MOST]:
        points = [curve for row in rows if row.record.status in drawn and (curve := logged(sweep, row))]
        if points and set.intersection(*map(set, points)):
            best = len(curves) < len(TONES)
            name = name if best else "others" if len(curves) == len(TONES) else ""
            curves.append(_curve(name, points, TONES[len(curves)] if best else "faint"))
    title = f"{sweep.objective}, held out" + (", mean and range over seeds" if groups else "")
    return line_chart(title, curves) if curves else None


def logged(sweep: Sweep, row: Row) -> dict[int, float]:
    """A job's values of the objective by step, as they were logged on held-out data."""
    stage, _, name = sweep.objective.partition(".")
    found = read_metrics(sweep.folder / str(row.record.number)).get(stage, {})
    return trained(found.get(f"validation/{name}", {}))


def _curve(name: str, points: Sequence[dict[int, float]], tone: str) -> Curve:
    """The mean of several curves at the steps that all have, with their lowest and highest values as a band."""
    at: dict[int, list[float]] = defaultdict(list)
    for curve in points:
        for step, value in curve.items():
            at[step].append(value)
    whole = {step: values for step, values in sorted(at.items()) if len(values) == len(points)}
    mean = {step: math.fsum(values) / len(values) for step, values in whole.items()}
    band = {step: (min(values), max(values)) for step, values in whole.items()} if len(points) > 1 else {}
    if tone == "faint":
        return Curve(name, mean, tone)
    return Curve(name, mean, tone, max(mean), band)
