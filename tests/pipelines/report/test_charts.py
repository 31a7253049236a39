import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.charts import Curve, ReferenceLine, frequency_chart, line_chart, thinned
from pipelines.report.svg import COLOURS

PATH = re.compile(r"[ML] ([-\d.]+) ([-\d.]+)")


class Drawn:
    """What a chart's SVG shows, in the units of its axes: places are read off by the labels of its ticks."""

    def __init__(self, chart):
        self.root = ElementTree.fromstring(chart.svg)
        self.texts = [text for text in self.root.iter() if text.tag.endswith("}text")]
        self.x = self.axis("middle", "x")
        self.y = self.axis("end", "y")

    def axis(self, anchor, name):
        """Slope and offset of an axis, from the first and the last of its labels that are numbers."""
        marks = []
        for text in self.texts:
            value = text.text.replace(",", "").replace("\N{MINUS SIGN}", "-").removesuffix(" %")
            if f"text-anchor: {anchor}" in text.get("style") and re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", value):
                marks.append((float(text.get(name)), float(value)))
        (start, low), (end, high) = min(marks), max(marks)
        return (high - low) / (end - start), low, start

    def curve(self, tone, dashed=False):
        """Points of the curve of a colour."""
        styles = [
            path for path in self.root.iter() if path.tag.endswith("}path") and "stroke-width" in path.get("style")
        ]
        (path,) = [
            path
            for path in styles
            if f"stroke: var(--{tone})" in path.get("style") and dashed == ("dasharray" in path.get("style"))
        ]
        return [self.place(float(x), float(y)) for x, y in PATH.findall(path.get("d"))]

    def place(self, x, y):
        baseline = 4.18  # a label's text stands so far below its mark
        (across, first, left), (up, low, bottom) = self.x, self.y
        return first + across * (x - left), low + up * (y + baseline - bottom)

    def dots(self):
        return {
            dot[0].text: self.place(float(dot.get("cx")), float(dot.get("cy")))
            for dot in self.root.iter()
            if dot.tag.endswith("}circle")
        }


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=3000))
def test_thinning_keeps_ends_and_extremes_and_changes_no_point(values):
    points = dict(enumerate(values))
    kept = thinned(points, buckets=50)
    whole = [(step, value) for step, value in points.items() if np.isfinite(value)]
    assert len(kept) <= 2 * 50 + 2
    assert set(kept) <= set(whole)
    assert kept == sorted(kept)
    if whole:
        assert {whole[0], whole[-1]} <= set(kept)
        assert min(v for _, v in kept) == min(v for _, v in whole)
        assert max(v for _, v in kept) == max(v for _, v in whole)


def test_curves_reference_lines_and_dots_are_drawn_where_their_values_are():
    points = {100: 2.0, 400: 3.5, 500: 1.0}
    chart = line_chart("T", [Curve("held out", points, "a", 500)], references=[ReferenceLine("log K", 3.0, "b")])
    drawn = Drawn(chart)
    assert np.allclose(drawn.curve("a"), list(points.items()), atol=0.02)
    assert np.allclose([value for _, value in drawn.curve("b", dashed=True)], 3.0, atol=0.02)
    assert np.allclose(drawn.dots()["step 400: 3.5"], (400, 3.5), atol=0.02)
    assert [(key.name, key.shape) for key in chart.legend] == [("held out", "line"), ("log K 3", "dashed")]
    assert chart.svg.count("marked") == 1


def test_a_band_reaches_from_the_lowest_to_the_highest_value():
    band = {0: (1.0, 3.0), 50: (2.0, 2.5), 100: (0.5, 4.0)}
    chart = line_chart("T", [Curve("mean", {0: 2.0, 50: 2.25, 100: 2.0}, "a", band=band)])
    drawn = Drawn(chart)
    (area,) = [path for path in drawn.root.iter() if "fill: var(--a)" in path.get("style", "")]
    corners = [drawn.place(float(x), float(y)) for x, y in PATH.findall(area.get("d"))]
    for step, edges in band.items():
        found = sorted(y for x, y in corners if abs(x - step) < 0.5)
        assert np.allclose([found[0], found[-1]], edges, atol=0.02)


@pytest.mark.parametrize("values", [(7.7, float(np.nextafter(7.7, 8))), (0.0, 0.0), (-3.0, -3.0)])
def test_values_equal_but_for_rounding_are_drawn_level(values):
    drawn = Drawn(line_chart("T", [Curve("c", dict(enumerate(values)), "a", 1)]))
    assert np.allclose([value for _, value in drawn.curve("a")], values[0], atol=0.01)
    labels = [text.text for text in drawn.texts]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("high", [10.0, 5000.0])
def test_a_logarithmic_scale_is_labelled_with_plain_numbers(high):
    chart = line_chart("T", [Curve("c", {1: 0.5, 2: high}, "a")], "log")
    shown = [
        text.text for text in ElementTree.fromstring(chart.svg).iter() if "text-anchor: end" in text.get("style", "")
    ]
    assert {"1", "10"} <= set(shown)
    assert ("2" in shown) == (high < 50)


def test_shares_have_an_axis_from_nothing_to_all():
    drawn = Drawn(line_chart("T", [Curve("c", {1: 0.25, 2: 0.5}, "a", 2)], "share"))
    assert {"0 %", "20 %", "100 %"} <= {text.text for text in drawn.texts}
    assert np.allclose([value for _, value in drawn.curve("a")], (25, 50), atol=0.2)


def test_a_lone_point_is_a_dot():
    assert np.allclose(Drawn(line_chart("T", [Curve("c", {7: 1.0}, "a", 7)])).dots()["step 7: 1"], (7, 1), atol=0.01)


def test_bars_are_shares_in_falling_order():
    chart = frequency_chart("codes", np.array([10, 60, 30, 0]))
    drawn = Drawn(chart)
    (bars,) = [path for path in drawn.root.iter() if "fill: var(--a)" in path.get("style", "")]
    corners = [drawn.place(float(x), float(y)) for x, y in PATH.findall(bars.get("d"))]
    for code, share in enumerate([60, 30, 10]):
        assert any(abs(x - code) < 0.02 and abs(y - share) < 0.2 for x, y in corners)
    assert chart.legend[1].name == "even use 25 %"


def test_a_large_codebook_makes_no_large_chart():
    assert len(frequency_chart("codes", np.arange(65536)).svg) < 50_000


def test_drawings_meet_nothing_else_of_their_page():
    chart = line_chart('<i>"&', [Curve("c", {1: 1.0, 9: 2.0}, "a", 9)])
    root = ElementTree.fromstring(chart.svg)
    assert root.get("aria-label") == '<i>"&'
    assert "<i>" not in chart.svg
    assert not any(element.get("id") or element.get("clip-path") for element in root.iter())
    assert not {element.tag.rpartition("}")[2] for element in root.iter()} & {"style", "script", "metadata", "defs"}
    assert not any(colour in chart.svg for colour in COLOURS.values())  # all are the page's
    assert "font-family" not in chart.svg
    assert "width" not in root.attrib


def test_the_same_values_give_the_same_drawing():
    first, second = (line_chart("T", [Curve("c", {1: 1.0, 2: 3.0}, "a", 2)]).svg for _ in range(2))
    assert first == second


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_command_that_writes_a_page_loads_what_draws_it_no_sooner(library):
    """Torchmetrics loads matplotlib by itself where it is loaded; without it, the pages' modules do not."""
    code = (
        "import sys; sys.modules['torchmetrics.utilities.plot'] = sys.modules['torch'] = None\n"
        "import pipelines.report.charts, pipelines.report.page, pipelines.report.svg, pipelines.report.formatting\n"
        "assert sys.argv[1] not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, library], check=True)


def test_a_chart_of_the_same_is_drawn_once():
    def draw(value):
        return line_chart("loss", [Curve("training", {1: 2.0, 2: value}, "a")])

    assert draw(1.0) is draw(1.0)
    assert draw(1.0) is not draw(1.0 + 1e-9)
