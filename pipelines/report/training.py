"""The report's charts of how the stages trained, and of how the codebook is used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from pipelines.report.charts import Chart, Curve, Points, ReferenceLine, Scale, frequency_chart, line_chart
from pipelines.report.formatting import number, percent
from stage2_prior.code_store.store import CodeStore

TONES = ("a", "b", "c")


def tokenizer_charts(metrics: Mapping[str, Points], codes: CodeStore | None) -> list[Chart]:
    """Charts of stage one.

    Args:
        metrics: Values by metric and step.
        codes: Codes of the training images, for their frequencies; None where there are none yet.
    """
    loss = finite(metrics.get("train/reconstruction", {}))
    charts = []
    if loss:
        low, high = min(loss.values()), max(loss.values())
        scale: Scale = "log" if low > 0 and high > 5 * low else "linear"
        charts.append(line_chart("Reconstruction loss", [Curve("training", loss, "a")], scale))
    charts += validation_chart(metrics, "psnr", "PSNR in dB")
    charts += validation_chart(metrics, "usage", "Codebook usage", "share", percent)
    charts += validation_chart(metrics, "perplexity", "Codebook perplexity")
    if codes is not None:
        grids = codes.layout.grids
        for index, (grid, counts) in enumerate(zip(grids, codes.histogram(), strict=True)):
            where = f", grid {index} ({'×'.join(map(str, grid))})" if len(grids) > 1 else ""
            title = f"{(counts > 0).sum():,} of {len(counts):,} codes occur in training images{where}"
            charts.append(frequency_chart(title, counts))
    return charts


def prior_charts(metrics: Mapping[str, Points], grid: str = "") -> list[Chart]:
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
        curves.append(Curve(f"held out, lowest {number(held_out[best])}", held_out, "a", best))
    if not curves:
        return []
    references = []
    for name, metric, tone in (("log K", "uniform_nats", "b"), ("frequencies alone", "unigram_nats", "c")):
        logged = finite(metrics.get(f"validation/{metric}", {}))
        references += [ReferenceLine(name, logged[max(logged)], tone)] if logged else []
    title = f"Nats per code of grid {grid}" if grid else "Nats per code"
    by_grid = validation_chart(metrics, r"nats_\d+", "Nats per code by grid, held out")
    return [line_chart(title, curves, references=references), *by_grid]


def validation_chart(
    metrics: Mapping[str, Points],
    name: str,
    title: str,
    scale: Scale = "linear",
    text: Callable[[float], str] = number,
) -> list[Chart]:
    """The chart of a metric over the held-out split, a curve for each grid; none where it was not logged.

    Args:
        metrics: Values by metric and step.
        name: Of the metric, a regular expression.
        title: Of the chart.
        scale: Of its values.
        text: Writes a value.
    """
    found = {key: trained(points) for key, points in metrics.items() if re.fullmatch(rf"validation/{name}(_\d+)?", key)}
    curves = []
    for index, (key, points) in enumerate(found.items()):
        if points:
            last = max(points)
            grid = f"grid {key.rpartition('_')[2]}" if len(found) > 1 else "held out"
            curves.append(Curve(f"{grid} {text(points[last])}", points, TONES[index % len(TONES)], last))
    return [line_chart(title, curves, scale, text=text)] if curves else []


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
