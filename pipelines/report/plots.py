"""Charts of the report: HTML and SVG that follow the page's colours and width, without scripts.

The drawing is an SVG that stretches; text lies around it as HTML, so that it keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

SIZE = 1000
"""Width and height of a drawing in its own units."""

Text = Callable[[float], str]
Points = Mapping[int, float]


@dataclass(frozen=True)
class Axis:
    """Values on a line.

    Attributes:
        place: Where a value lies, from 0 to 1.
        ticks: Values that are marked, and how they read.
    """

    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Curve:
    """A metric over steps.

    Attributes:
        name: For the legend.
        points: By step.
        tone: CSS class of its colour.
        marked: The step whose point is drawn as a dot; None for none.
    """

    name: str
    points: Points
    tone: str
    marked: int | None = None


@dataclass(frozen=True)
class Level:
    """A value to compare with, drawn as a dashed line across the chart."""

    name: str
    value: float
    tone: str


def figure(value: float) -> str:
    """A figure as people read it: four significant digits, all digits of what is before the point."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float) -> str:
    """A share in percent, to three significant digits."""
    return f"{100 * value:.3g} %"


def linear_axis(low: float, high: float, text: Text | None = None) -> Axis:
    """An axis from a round value at or below ``low`` to one at or above ``high``."""
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # a constant, but for rounding, is drawn halfway up
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    step, decimals = _round_step((high - low) / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    start, width = first * step, (last - first) * step
    values = [number * step for number in range(first, last + 1)]
    return Axis(
        lambda value: (value - start) / width, tuple((v, text(v) if text else f"{v:,.{decimals}f}") for v in values)
    )


def log_axis(low: float, high: float) -> Axis:
    """A logarithmic axis between powers of ten, or their doubles and halves where that is enough; ``low > 0``."""
    digits = (1, 2, 5) if high / low < 100 else (1,)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    marks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    start = max(mark for mark in marks if mark <= low)
    end = min(mark for mark in marks if mark >= high and mark > start)
    width = math.log(end / start)
    ticks = tuple((mark, f"{mark:g}") for mark in marks if start <= mark <= end)
    return Axis(lambda value: math.log(value / start) / width, ticks)


def step_axis(last: int) -> Axis:
    """An axis of counts from 0 to ``last``, or to the round value that it nearly reaches."""
    last = max(last, 1)
    step = max(1, int(_round_step(last / 5)[0]))
    end = last + -last % step if -last % step <= 0.03 * last else last
    return Axis(lambda value: value / end, tuple((value, f"{value:,}") for value in range(0, end + 1, step)))


def _round_step(least: float) -> tuple[float, int]:
    """The smallest of 1, 2, 5, 10, … or 0.5, 0.2, … that is at least this, and the decimals it needs."""
    exponent = math.floor(math.log10(least))
    digit = next(digit for digit in (1, 2, 5, 10) if digit * 10.0**exponent >= least * (1 - 1e-9))
    return digit * 10.0**exponent, max(0, -exponent - (digit == 10))


def line_chart(
    title: str, curves: Sequence[Curve], axis: Axis, levels: Sequence[Level] = (), text: Text = figure
) -> str:
    """Curves over training steps."""
    steps = step_axis(max(step for curve in curves for step in curve.points))
    drawn = "".join(_level(level, axis) for level in levels)
    drawn += "".join(f'<path class="{curve.tone}" d="{_path(curve.points, steps, axis)}"/>' for curve in curves)
    legend = [(curve.tone, "key", curve.name) for curve in curves]
    legend += [(level.tone, "key dashed", f"{level.name} {text(level.value)}") for level in levels]
    dots = "".join(_dots(curve, steps, axis, text) for curve in curves)
    return _chart(title, legend, drawn, dots, steps, axis, "step")


def frequency_chart(title: str, counts: NDArray[np.int64]) -> str:
    """How often each code occurs, most frequent first, beside even use; ``counts [K]``."""
    size, shares = len(counts), np.sort(counts)[::-1] / max(1, counts.sum())
    stride = -(-size // 512)  # neighbours in rank are nearly equal, and a screen has no more columns
    axis = linear_axis(0, float(max(shares[0], 1 / size)), percent)
    gap = 0.15 if size <= 128 else 0
    bars = []
    for rank in range(0, size, stride):
        left, right = SIZE * (rank + gap) / size, SIZE * min(rank + stride, size) / size
        bars.append(f"M{left:.1f} {SIZE}V{_down(shares[rank], axis):.1f}H{right:.1f}V{SIZE}Z")
    even = Level("even use", 1 / size, "b")
    drawn = f'<path class="bars" d="{"".join(bars)}"/>' + _level(even, axis)
    legend = [("a", "key block", "share of all codes"), ("b", "key dashed", f"even use {percent(1 / size)}")]
    return _chart(title, legend, drawn, "", step_axis(size), axis, "codes, most frequent first")


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


def _down(value: float, axis: Axis) -> float:
    return SIZE * (1 - axis.place(float(value)))


def _path(points: Points, steps: Axis, axis: Axis) -> str:
    places = (f"{SIZE * steps.place(step):.1f} {_down(value, axis):.1f}" for step, value in thinned(points))
    return "M" + "L".join(places)


def _level(level: Level, axis: Axis) -> str:
    height = f"{_down(level.value, axis):.1f}"
    return f'<path class="{level.tone} dashed" d="M0 {height}H{SIZE}"/>'


def _dots(curve: Curve, steps: Axis, axis: Axis, text: Text) -> str:
    """Points that say their figure when pointed at; of a curve without a marked point there are none."""
    if curve.marked is None:
        return ""
    shown = dict(thinned(curve.points, 30)) | {curve.marked: curve.points[curve.marked]}
    dots = []
    for step, value in sorted(shown.items()):
        left, top = 100 * steps.place(step), _down(value, axis) * 100 / SIZE
        classes = f"dot {curve.tone}{' marked' if step == curve.marked else ''}{' right' if left > 60 else ''}"
        tip = escape(f"step {step:,}: {text(value)}")
        dots.append(f'<i class="{classes}" style="left:{left:.2f}%;top:{top:.2f}%" data-tip="{tip}"></i>')
    return "".join(dots)


def _chart(
    title: str, legend: Iterable[tuple[str, str, str]], drawn: str, dots: str, across: Axis, up: Axis, unit: str
) -> str:
    """A titled drawing with its axes."""
    heights = [(100 * (1 - up.place(value)), label) for value, label in up.ticks]
    grid = "".join(f"M0 {SIZE / 100 * top:.1f}H{SIZE}" for top, _ in heights)
    rows = "".join(f'<span style="top:{top:.2f}%">{escape(label)}</span>' for top, label in heights)
    columns = "".join(
        f'<span style="left:{100 * across.place(value):.2f}%">{escape(label)}</span>' for value, label in across.ticks
    )
    keys = "".join(f'<span class="{kind} {tone}">{escape(name)}</span>' for tone, kind, name in legend)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b><span class="legend">{keys}</span></figcaption>'
        f'<div class="plot"><div class="rows" aria-hidden="true">{rows}</div><div class="area">'
        f'<svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f'<path class="grid" d="{grid}"/>{drawn}</svg>{dots}</div>'
        f'<div class="columns" aria-hidden="true">{columns}</div>'
        f'<div class="unit">{escape(unit)}</div></div></figure>\n'
    )
