"""What the images of a source are before anything is done to them: sizes, modes and formats, from their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.data.decoding import Header, read_header
from stage1_vqvae.data.decoding_pass import with_progress
from stage1_vqvae.data.originals import Original, OriginalSet

Fetch = Callable[[NDArray[np.int64]], list[Original]]

SURVEYED = 20_000
"""Images of a split whose headers are read at most."""


@dataclass(frozen=True)
class Survey:
    """How many images of a source have each property.

    Attributes:
        sizes: By height and width in pixels.
        modes: By PIL's name of their channels, ``RGB`` say; of arrays by type and channels.
        formats: By format, ``JPEG`` say.
        read: Images whose headers were read.
        total: Images of the source.
    """

    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    formats: Counter[str]
    read: int
    total: int


def survey(source: OriginalSet, name: str) -> Survey:
    """Reads the headers of a source's images: of all, or of :data:`SURVEYED` evenly spaced ones of each split.

    Args:
        source: The images. Those that cannot be read count in the total alone.
        name: What the progress bars call them.
    """
    found: list[Header] = []
    for split, images in source.splits.items():
        count = len(images.labels)
        chosen = np.linspace(0, count - 1, min(count, SURVEYED)).round().astype(np.int64)

        def headers(rows: NDArray[np.int64], fetch: Fetch = images.originals.fetch) -> list[Header]:
            return [header for original in fetch(rows) if (header := read_header(original)) is not None]

        for chunk in with_progress(chosen, headers, f"Headers of {name}, {split}"):
            found += chunk
    return Survey(
        sizes=Counter(header.size for header in found),
        modes=Counter(header.mode for header in found),
        formats=Counter(header.format for header in found),
        read=len(found),
        total=sum(len(images.labels) for images in source.splits.values()),
    )
