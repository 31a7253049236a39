"""Small pictures in a terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style

from pipelines.cli.console import console

MOST_COLUMNS, MOST_LINES = 128, 24


def show_picture(path: Path) -> None:
    """Print a picture in half blocks, two pixels a character; nothing where there is no terminal with true colour."""
    if not console.is_terminal or console.color_system != "truecolor":
        return
    with Image.open(path) as file:
        picture = file.convert("RGB")
    share = min(min(console.width, MOST_COLUMNS) / picture.width, 2 * MOST_LINES / picture.height, 1.0)
    width, height = max(1, round(picture.width * share)), max(2, round(picture.height * share) // 2 * 2)
    rows = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        cells = [
            Segment("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
            for above, below in zip(upper.tolist(), lower.tolist(), strict=True)
        ]
        console.print(Segments([*cells, Segment.line()]), end="")
