"""Images as a training would see them: what was found, what they look like, and which of them are nearly the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.markup import escape
from torch import Tensor

from pipelines.cli.console import console
from pipelines.cli.pictures import show_picture
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.report.preview import Preview, write_preview
from pipelines.tracking.image_grid import grid, save_image, strip_of_pairs
from pipelines.training.images import open_images
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.data.dataset import ImageData, ImageSplit
from stage1_vqvae.data.duplicates import first_twins, spread_thumbnails
from stage1_vqvae.data.survey import survey

COMPARED = 20_000
"""Images of a split that are compared at most: the time grows with the square."""
PAIRS = 16
"""Nearly equal pairs that are shown."""


@dataclass(frozen=True)
class Twins:
    """Nearly equal images of two splits, or of one.

    Attributes:
        pairs: int64 ``[n, 2]``, the row of an image and that of the first one that it nearly equals.
        compared: Images that were compared.
    """

    pairs: Tensor
    compared: int


def preview(settings: Settings) -> None:
    """Look at ``settings["data"]`` and write what was seen into ``settings["output"]``.

    Raises:
        ValueError: If a setting is wrong, or the images are missing or broken.
    """
    if settings["n"] < 1:
        raise ValueError(f"n is at least 1, got {settings['n']}")
    output = Path(settings["output"])
    images = open_images(settings)
    source = build(settings["data"], "data", settings["trust"]).find()
    found = survey(source.read(), source.name)
    first = in_turn(images.train, len(images.class_names), settings["n"])
    shown = pixels(images.train, first)
    save_image(grid(shown, columns=min(len(shown), 16)), output / "images.png")
    augmented = images.augmentation(torch.from_numpy(shown), torch.from_numpy(first), settings["seed"])
    save_image(strip_of_pairs(shown, to_uint8(augmented).numpy()), output / "augmented.png")
    within, across = twins(images)
    save_pairs(images, within, across, output / "nearly_equal.png")
    seen = Preview(images, found, (len(within.pairs), within.compared), (len(across.pairs), across.compared))
    page = write_preview(seen, output)
    for name, text in seen.lines():
        console.print(f"  {name:<12} {escape(text)}")
    show_picture(output / "images.png")
    console.print(f"page  {page}")


def in_turn(split: ImageSplit, classes: int, n: int) -> NDArray[np.int64]:
    """Rows of ``n`` images of a split, the classes in turn; fewer where it has no more."""
    by_class = [torch.nonzero(split.labels == label).flatten().tolist() for label in range(-1, classes)]
    rows = [row for row in chain.from_iterable(zip_longest(*filter(None, by_class))) if row is not None]
    return np.array(rows[:n], dtype=np.int64)


def pixels(split: ImageSplit, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images of a split, uint8 ``[n, H, W, C]``."""
    return split.__getitems__(rows.tolist())["images"].numpy()


def twins(images: ImageData) -> tuple[Twins, Twins]:
    """Nearly equal training images, and validation images that nearly equal a training image."""
    train_rows, train = spread_thumbnails(images.train, COMPARED)
    rows, validation = spread_thumbnails(images.validation, COMPARED)
    within, across = first_twins(train), first_twins(validation, train)
    return (
        Twins(torch.stack([train_rows, train_rows[within]], 1)[within >= 0], len(train_rows)),
        Twins(torch.stack([rows, train_rows[across]], 1)[across >= 0], len(rows)),
    )


def save_pairs(images: ImageData, within: Twins, across: Twins, path: Path) -> None:
    """Draw nearly equal pairs, one above the other, those of two splits first; no picture where there are none."""
    path.unlink(missing_ok=True)  # of an earlier look
    upper = [pixels(images.validation, across.pairs[:PAIRS, 0].numpy())] if len(across.pairs) else []
    left = PAIRS - min(len(across.pairs), PAIRS)
    if left and len(within.pairs):
        upper.append(pixels(images.train, within.pairs[:left, 0].numpy()))
    if upper:
        lower = torch.cat([across.pairs[:PAIRS, 1], within.pairs[:left, 1]])
        save_image(strip_of_pairs(np.concatenate(upper), pixels(images.train, lower.numpy())), path)
