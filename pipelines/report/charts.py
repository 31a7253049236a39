"""Charts of the report: SVG drawn by matplotlib, in the colours of the page that shows them.

Titles and legends are the page's own text; only the axes and what lies between them are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.report.formatting import number, percent
from pipelines.report.svg import COLOURS, HEIGHT, WIDTH, Dot, svg_element

Points = Mapping[int, float]
Scale = Literal["linear", "log", "share"]


@dataclass(frozen=True)
class Curve:
    """A metric over training steps.

    Attributes:
        name: For the legend; empty for a curve that is not in it.
        points: Values by step.
        tone: Name of its colour.
        marked: The step whose point is drawn as a dot; None for none.
        band: Lowest and highest value by step, drawn as an area behind the curve; empty for none.
    """

    name: str
    points: Points
    tone: str
    marked: int | None = None
    band: Mapping[int, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferenceLine:
    """A value to compare with, drawn as a dashed line across the chart."""

    name: str
    value: float
    tone: str


@dataclass(frozen=True)
class Key:
    """An entry of a legend: its text, and the shape (``line``, ``dashed``, ``block``) and the colour beside it."""

    name: str
    shape: str
    tone: str


@dataclass(frozen=True)
class Chart:
    """A chart for a page: its title, its legend, and the drawing as an ``<svg>`` element."""

    title: str
    legend: tuple[Key, ...]
    svg: str


DRAWN: dict[str, Chart] = {}
"""Charts by what they show: jobs of a sweep that share a tokenizer have those of stage one in common."""

MOST_DRAWN = 64
"""Charts that are kept."""


def line_chart(
    title: str,
    curves: Sequence[Curve],
    scale: Scale = "linear",
    references: Sequence[ReferenceLine] = (),
    text: Callable[[float], str] = number,
) -> Chart:
    """Draw curves over training steps.

    Args:
        title: Of the chart.
        curves: At least one, each with at least one point.
        scale: Of the values: linear, logarithmic, or a share from 0 to 100 %.
        references: Values to compare with.
        text: Writes a value, for the legend and for points that are pointed at.
    """
    shown = repr((title, curves, scale, references, text))
    if shown not in DRAWN:
        if len(DRAWN) == MOST_DRAWN:
            DRAWN.clear()
        DRAWN[shown] = _draw_lines(title, curves, scale, references, text)
    return DRAWN[shown]


def _draw_lines(
    title: str,
    curves: Sequence[Curve],
    scale: Scale,
    references: Sequence[ReferenceLine],
    text: Callable[[float], str],
) -> Chart:
    figure, axes = _empty("step")
    for line in references:
        axes.axhline(line.value, color=COLOURS[line.tone], linestyle=(0, (4, 3)), linewidth=1.2)
    for index, curve in enumerate(curves):
        steps, values = zip(*thinned(curve.points), strict=True)
        if curve.band:
            within = sorted(curve.band)
            low, high = zip(*(curve.band[step] for step in within), strict=True)
            edge = [*low, *reversed(high)]
            axes.fill([*within, *reversed(within)], edge, color=COLOURS[curve.tone], alpha=0.18, linewidth=0)
        faint = curve.tone == "faint"
        order = (2 if faint else 3) - index / len(curves)  # the first lie on top, and faint ones below the others
        axes.plot(steps, values, color=COLOURS[curve.tone], linewidth=1.2 if faint else 1.8, zorder=order)
    _scale_steps(axes, max(max(curve.points) for curve in curves))
    _scale_values(axes, scale)
    legend = [Key(curve.name, "line", curve.tone) for curve in curves if curve.name]
    legend += [Key(f"{line.name} {text(line.value)}", "dashed", line.tone) for line in references]
    dots = [dot for curve in curves for dot in _dots(curve, text)]
    return Chart(title, tuple(legend), svg_element(title, figure, axes, dots))


def frequency_chart(title: str, counts: NDArray[np.int64]) -> Chart:
    """Draw how often each code occurs, the most frequent first, beside even use.

    Args:
        title: Of the chart.
        counts: How often each code occurs, ``[K]``.
    """
    size, shares = len(counts), np.sort(counts)[::-1] / max(1, counts.sum())
    stride = -(-size // 512)  # codes of neighbouring ranks are about as frequent, and a screen has no more columns
    figure, axes = _empty("codes, most frequent first")
    axes.stairs(shares[::stride], [*range(0, size, stride), size], fill=True, color=COLOURS["a"], linewidth=0)
    axes.axhline(1 / size, color=COLOURS["b"], linestyle=(0, (4, 3)), linewidth=1.2)
    _scale_steps(axes, size)
    axes.set_ylim(0, 1.05 * max(shares[0], 1 / size))
    _label_values(axes, percent)
    legend = (Key("share of all codes", "block", "a"), Key(f"even use {percent(1 / size)}", "dashed", "b"))
    return Chart(title, legend, svg_element(title, figure, axes, []))


@dataclass(frozen=True)
class Place:
    """A point of a chart of two metrics.

    Attributes:
        x: Of the horizontal metric.
        y: Of the vertical one.
        tone: Name of its colour.
        text: What it shows when it is pointed at.
    """

    x: float
    y: float
    tone: str
    text: str


def scatter_chart(title: str, names: tuple[str, str], places: Sequence[Place], legend: Sequence[Key]) -> Chart:
    """Draw points by two metrics.

    Args:
        title: Of the chart.
        names: Of the horizontal and of the vertical metric.
        places: At least one point; the first lie on top.
        legend: What the tones mean.
    """
    figure, axes = _empty(names[0])
    axes.set_ylabel(names[1], size=11, color=COLOURS["soft"])
    axes.update_datalim([(place.x, place.y) for place in places])
    axes.margins(0.06)
    axes.autoscale_view()
    _label_values(axes, None)
    dots = [Dot(place.x, place.y, place.tone, place.text, True) for place in reversed(places)]
    return Chart(title, tuple(legend), svg_element(title, figure, axes, dots))


def thinned(points: Points, buckets: int = 200) -> list[tuple[int, float]]:
    """Points of a long curve for a screen: the lowest and the highest of every stretch, in order of steps."""
    items = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    length = -(-len(items) // buckets)
    if length <= 2:
        return items
    kept: set[tuple[int, float]] = {items[0], items[-1]}
    for start in range(0, len(items), length):
        stretch = items[start : start + length]
        kept |= {min(stretch, key=lambda item: item[1]), max(stretch, key=lambda item: item[1])}
    return sorted(kept)


def _empty(unit: str) -> tuple[Any, Any]:
    """An empty figure of matplotlib's and its axes; imported here because no command needs it before its last step."""
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / 72, HEIGHT / 72), dpi=72, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=7, labelsize=11, labelcolor=COLOURS["soft"])
    axes.grid(axis="y", color=COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(unit, size=11, color=COLOURS["soft"])
    return figure, axes


def _scale_steps(axes: Any, last: int) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlim(0, max(1.01 * last, 1))  # so that a curve that ends at 999 reaches the mark of 1,000
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _scale_values(axes: Any, scale: Scale) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if scale == "share":
        axes.set_ylim(0, 1.05)
        _label_values(axes, percent)
    elif scale == "log":
        low, high = axes.dataLim.intervaly
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        low, high = axes.dataLim.intervaly
        if high - low <= 1e-6 * max(abs(low), abs(high)):  # a constant, but for rounding
            axes.set_ylim(low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
        _label_values(axes, None)


def _label_values(axes: Any, text: Callable[[float], str] | None) -> None:
    """Put round values on the vertical axis, written by ``text`` or with as many digits as tell them apart."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    plain = ScalarFormatter(useOffset=False)
    plain.set_scientific(False)
    axes.yaxis.set_major_formatter(plain if text is None else lambda value, _: text(value))


def _dots(curve: Curve, text: Callable[[float], str]) -> list[Dot]:
    """Points of a curve that show their value when pointed at; none for a curve without a marked point."""
    if curve.marked is None:
        return []
    shown = dict(thinned(curve.points, 30)) | {curve.marked: curve.points[curve.marked]}
    return [
        Dot(step, value, curve.tone, f"step {step:,}: {text(value)}", step == curve.marked)
        for step, value in sorted(shown.items())
    ]
