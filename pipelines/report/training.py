"""The report's charts of how the stages trained, and of how the codebook is used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

from pipelines.report import page as html
from pipelines.report.plots import (
    Axis,
    Curve,
    Level,
    Points,
    figure,
    frequency_chart,
    line_chart,
    linear_axis,
    log_axis,
    percent,
)
from stage2_prior.code_store.store import CodeStore

TONES = ("a", "b", "c")


def tokenizer_curves(metrics: Mapping[str, Points], codes: CodeStore | None) -> str:
    """Charts of stage one.

    Args:
        metrics: Values by metric and step.
        codes: Codes of the training images, for their frequencies.
    """
    loss = finite(metrics.get("train/reconstruction", {}))
    charts = []
    if loss:
        charts.append(line_chart("Reconstruction loss", [Curve("training", loss, "a")], loss_axis(loss.values())))
    charts += validation_chart(metrics, "psnr", "PSNR in dB", value_axis)
    charts += validation_chart(metrics, "usage", "Codebook usage", lambda _: linear_axis(0, 1, percent), percent)
    charts += validation_chart(metrics, "perplexity", "Codebook perplexity", lambda values: linear_axis(0, max(values)))
    if codes is not None:
        grids = codes.layout.grids
        for number, (grid, counts) in enumerate(zip(grids, codes.histogram(), strict=True)):
            where = f", grid {number} ({'×'.join(map(str, grid))})" if len(grids) > 1 else ""
            title = f"{(counts > 0).sum():,} of {len(counts):,} codes occur in training images{where}"
            charts.append(frequency_chart(title, counts))
    return panels(charts)


def prior_curves(metrics: Mapping[str, Points], grid: str = "") -> str:
    """Charts of stage two.

    Args:
        metrics: Values by metric and step.
        grid: Number of the grid whose part was trained; empty for the whole prior.
    """
    training, held_out = finite(metrics.get("train/nats", {})), trained(metrics.get("validation/nats", {}))
    curves = []
    if training:
        curves.append(Curve("training", training, "faint"))
    if held_out:
        best = min(held_out, key=lambda step: held_out[step])
        curves.append(Curve(f"held out, lowest {figure(held_out[best])}", held_out, "a", best))
    if not curves:
        return ""
    levels = []
    for name, metric, tone in (("log K", "uniform_nats", "b"), ("frequencies alone", "unigram_nats", "c")):
        logged = finite(metrics.get(f"validation/{metric}", {}))
        levels += [Level(name, logged[max(logged)], tone)] if logged else []
    values = [value for curve in curves for value in curve.points.values()] + [level.value for level in levels]
    title = f"Nats per code of grid {grid}" if grid else "Nats per code"
    charts = [line_chart(title, curves, value_axis(values), levels)]
    charts += validation_chart(metrics, r"nats_\d+", "Nats per code by grid, held out", value_axis)
    return panels(charts)


def validation_chart(
    metrics: Mapping[str, Points],
    name: str,
    title: str,
    axis: Callable[[Iterable[float]], Axis],
    text: Callable[[float], str] = figure,
) -> list[str]:
    """The chart of a metric over the held-out split, a curve for each grid; none where it was not logged.

    Args:
        metrics: Values by metric and step.
        name: Of the metric, a regular expression.
        title: Of the chart.
        axis: Its vertical axis, from the values.
        text: How a value is written.
    """
    found = {key: trained(points) for key, points in metrics.items() if re.fullmatch(rf"validation/{name}(_\d+)?", key)}
    curves = []
    for number, (key, points) in enumerate(found.items()):
        if points:
            last = max(points)
            grid = f"grid {key.rpartition('_')[2]}" if len(found) > 1 else "held out"
            curves.append(Curve(f"{grid} {text(points[last])}", points, TONES[number % len(TONES)], last))
    values = [value for curve in curves for value in curve.points.values()]
    return [line_chart(title, curves, axis(values), text=text)] if curves else []


def finite(points: Points) -> dict[int, float]:
    """The points that can be drawn."""
    return {step: value for step, value in points.items() if math.isfinite(value)}


def trained(points: Points) -> dict[int, float]:
    """What was validated during training.

    A stage ends by validating the weights it keeps, a step after its last validation in training: a repetition, or,
    where the best were kept, a point that lies on no curve.
    """
    points = finite(points)
    last = max(points, default=0)
    return {step: value for step, value in points.items() if step != last or step - 1 not in points}


def value_axis(values: Iterable[float]) -> Axis:
    """A linear axis that fits all values."""
    values = list(values)
    return linear_axis(min(values), max(values))


def loss_axis(values: Iterable[float]) -> Axis:
    """A logarithmic axis where a loss falls by much, a linear one otherwise."""
    low, high = min(values := list(values)), max(values)
    return log_axis(low, high) if low > 0 and high > 5 * low else linear_axis(low, high)


def panels(charts: Iterable[str]) -> str:
    """Charts side by side where there is room."""
    return html.two_abreast(*filter(None, map(html.box, charts)))
