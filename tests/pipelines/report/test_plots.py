import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.plots import (
    Curve,
    Level,
    figure,
    frequency_chart,
    line_chart,
    linear_axis,
    log_axis,
    percent,
    step_axis,
    thinned,
)

VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))


def path_of(chart: str, tone: str) -> list[tuple[float, float]]:
    """Points of a drawn curve, from 0 to 1 across and up."""
    (drawn,) = re.findall(rf'<path class="{tone}" d="M([^"]*)"', chart)
    pairs = [point.split() for point in drawn.split("L")]
    return [(float(x) / 1000, 1 - float(y) / 1000) for x, y in pairs]


@pytest.mark.parametrize(
    ("value", "shown"), [(23.4137, "23.41"), (0.93125, "0.9313"), (1234567.8, "1,234,568"), (1.0, "1"), (0.0, "0")]
)
def test_figures_read_well(value, shown):
    assert figure(value) == shown


def test_percent():
    assert percent(0.9921875) == "99.2 %"
    assert percent(1.0) == "100 %"


@given(VALUES, VALUES)
def test_a_linear_axis_covers_its_values_with_few_even_ticks(one, other):
    low, high = sorted((one, other))
    axis = linear_axis(low, high)
    marks = [value for value, _ in axis.ticks]
    tolerance = 1e-6
    assert -tolerance <= axis.place(low) <= axis.place(high) <= 1 + tolerance
    assert axis.place(marks[0]) == pytest.approx(0, abs=tolerance)
    assert axis.place(marks[-1]) == pytest.approx(1, abs=tolerance)
    assert 3 <= len(marks) <= 8
    assert np.allclose(np.diff(marks), marks[1] - marks[0])
    labels = [float(label.replace(",", "")) for _, label in axis.ticks]
    assert labels == pytest.approx(marks, rel=1e-9, abs=1e-9)


def test_values_equal_but_for_rounding_are_a_constant():
    axis = linear_axis(7.7, np.nextafter(7.7, 8))
    assert 0.3 < axis.place(7.7) < 0.7
    assert len(axis.ticks) <= 8


@given(st.floats(1e-6, 1e6), st.floats(1, 1e6))
def test_a_log_axis_covers_its_values(low, ratio):
    axis = log_axis(low, low * ratio)
    marks = [value for value, _ in axis.ticks]
    assert -1e-9 <= axis.place(low) <= axis.place(low * ratio) <= 1 + 1e-9
    assert 2 <= len(marks) <= 13
    assert axis.place(math.sqrt(marks[0] * marks[-1])) == pytest.approx(0.5)


@given(st.integers(0, 10**7))
def test_a_step_axis_starts_at_zero_and_ends_near_its_last_step(last):
    axis = step_axis(last)
    assert axis.ticks[0] == (0, "0")
    assert axis.place(0) == 0
    assert 0.97 <= axis.place(max(last, 1)) <= 1
    assert all(axis.place(value) <= 1 for value, _ in axis.ticks)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=3000))
def test_thinning_keeps_ends_and_extremes_and_changes_no_point(values):
    points = dict(enumerate(values))
    kept = thinned(points, buckets=50)
    whole = [(step, value) for step, value in points.items() if math.isfinite(value)]
    assert len(kept) <= 2 * 50 + 2
    assert set(kept) <= set(whole)
    assert kept == sorted(kept)
    if whole:
        assert {whole[0], whole[-1]} <= set(kept)
        assert min(v for _, v in kept) == min(v for _, v in whole)
        assert max(v for _, v in kept) == max(v for _, v in whole)


def test_curves_and_levels_are_drawn_where_their_values_are():
    points = {100: 2.0, 400: 3.5, 500: 1.0}
    chart = line_chart("T", [Curve("held out", points, "a", 500)], linear_axis(0, 4), [Level("log K", 3.0, "b")])
    assert np.allclose(path_of(chart, "a"), [(0.2, 0.5), (0.8, 0.875), (1.0, 0.25)])
    assert 'class="b dashed" d="M0 250.0H1000"' in chart
    assert "log K 3<" in chart
    assert 'data-tip="step 400: 3.5"' in chart
    assert chart.count("marked") == 1


def test_a_lone_point_is_a_dot():
    chart = line_chart("T", [Curve("c", {7: 1.0}, "a", 7)], linear_axis(1, 1))
    assert "left:100.00%;top:50.00%" in chart


def test_bars_are_shares_in_falling_order():
    chart = frequency_chart("codes", np.array([10, 60, 30, 0]))
    (bars,) = re.findall(r'<path class="bars" d="([^"]*)"', chart)
    heights = [1 - float(top) / 1000 for top in re.findall(r"V([\d.]+)H", bars)]
    top = float(re.findall(r"<span style=\"top:0.00%\">([\d.]+) %", chart)[0]) / 100
    assert np.array(heights) * top == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=1e-3)
    assert "even use 25 %" in chart


def test_a_large_codebook_makes_no_large_chart():
    assert len(frequency_chart("codes", np.arange(65536))) < 50_000


def test_titles_and_legends_are_escaped():
    chart = line_chart("<i>", [Curve('"<b>', {1: 1.0}, "a")], linear_axis(0, 1))
    assert "<i>" not in chart
    assert "<b>" not in chart.replace("<b>&lt;i&gt;</b>", "")
