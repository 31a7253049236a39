"""Pictures inside a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

SHARP, LARGEST = 1000, 1600
"""Pixels across: smaller pictures are enlarged without smoothing, larger ones reduced."""


def data_uri(path: Path, width: int = LARGEST) -> str:
    """A picture as the source of an ``img`` element: a PNG that is sharp on a dense screen and no larger.

    Args:
        path: The picture.
        width: Pixels across at most.
    """
    with Image.open(path) as file:
        image: Image.Image = file
        zoom = -(-min(SHARP, width) // image.width)
        if zoom > 1:
            image = image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)
        elif image.width > width:
            size = (width, max(1, round(image.height * width / image.width)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
