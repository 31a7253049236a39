"""Matplotlib's figures as SVG elements of a page: they have the page's colours and fonts and scale with its width."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

WIDTH, HEIGHT = 420, 210
"""Of a drawing, in the units of its viewBox; on a wide screen a unit is about a pixel."""

COLOURS = {name: f"#00000{digit}" for digit, name in enumerate(("a", "b", "c", "faint", "soft", "line"), 1)}
"""Colours of the page by the name of their CSS variable, and what matplotlib draws in their place."""

SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Dot:
    """A point of a drawing that shows its text when it is pointed at.

    Attributes:
        x: Its place on the horizontal axis.
        y: Its place on the vertical axis.
        tone: Name of its colour.
        text: What it shows.
        marked: Whether it is visible at all times.
    """

    x: float
    y: float
    tone: str
    text: str
    marked: bool


def svg_element(title: str, figure: Any, axes: Any, dots: Sequence[Dot]) -> str:
    """Turn a drawing into an ``<svg>`` element.

    Args:
        title: What it shows, for readers who do not see it.
        figure: A matplotlib figure of ``WIDTH`` by ``HEIGHT`` points at 72 dpi, drawn in ``COLOURS``.
        axes: Its axes.
        dots: Points to add, in the axes' coordinates.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(file.getvalue())
    _strip(root)
    root.attrib |= {"role": "img", "aria-label": title}
    for dot in dots:
        left, bottom = axes.transData.transform((dot.x, dot.y))
        classes = f"dot {dot.tone}{' marked' if dot.marked else ''}"
        place = {"class": classes, "cx": f"{left:.1f}", "cy": f"{HEIGHT - bottom:.1f}", "r": "3.5"}
        circle = ElementTree.SubElement(root, f"{{{SVG}}}circle", place)
        ElementTree.SubElement(circle, f"{{{SVG}}}title").text = dot.text
    return _styled(ElementTree.tostring(root, encoding="unicode"))


def _strip(root: ElementTree.Element) -> None:
    """Take out what would meet the rest of the page: a size in points, ids, definitions, metadata."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}defs"):
                parent.remove(child)
        for name in ("clip-path", "id"):  # every chart of a page has the same ones
            parent.attrib.pop(name, None)


def _styled(text: str) -> str:
    """An element's text with the page's colours and font, and numbers as fine as a screen shows."""
    names = {colour: name for name, colour in COLOURS.items()}
    text = re.sub("|".join(names), lambda found: f"var(--{names[found.group()]})", text)
    text = re.sub(r"font-family: [^;]*; ", "", text)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
