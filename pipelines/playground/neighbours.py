"""The training images that are nearest to given images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.artifacts.run_folder import RunFolder
from pipelines.training.images import open_images, run_data
from stage1_vqvae.data.dataset import ImageSplit

LOOKED_AT = 50_000
"""Training images that are compared at most, the first ones."""

AT_A_TIME = 500


@dataclass(frozen=True)
class Nearest:
    """The nearest training image to each of N images.

    Attributes:
        images: uint8 ``[N, H, W, C]``.
        errors: Mean squared errors to them ``[N]``, of pixels in [0, 1].
        among: Number of training images that were looked at.
        of: Number of all training images.
    """

    images: NDArray[np.uint8]
    errors: NDArray[np.float32]
    among: int
    of: int


class Neighbours:
    """A run's training images, opened when they are first asked for.

    Args:
        run: The run.
        trust: Packages whose classes its configuration may name.
    """

    def __init__(self, run: RunFolder, trust: Sequence[str] = ()) -> None:
        self.run = run
        self.trust = trust

    @cached_property
    def train(self) -> ImageSplit:
        """The training images.

        Raises:
            ValueError: If they are not where they were.
        """
        try:
            data = run_data(self.run, {})
            return open_images({"data": data, "trust": list(self.trust)}).train
        except OSError as error:
            raise ValueError(f"The training images of {self.run.path} are not here ({error}).") from error

    def of(self, images: NDArray[np.uint8]) -> Nearest:
        """The nearest training image to each of ``images``, uint8 ``[N, H, W, C]``, by the squared error of pixels.

        Raises:
            ValueError: If the training images are not where they were.
        """
        among = min(len(self.train), LOOKED_AT)
        given = torch.from_numpy(images).flatten(1).float() / 255
        errors, found = torch.full((len(images),), torch.inf), torch.zeros(len(images), dtype=torch.int64)
        for start in range(0, among, AT_A_TIME):
            pixels = self.train.__getitems__(list(range(start, min(start + AT_A_TIME, among))))["images"]
            others = pixels.flatten(1).float() / 255
            # Not by way of the scalar product, which rounds away what sets near images apart.
            distances = torch.cdist(given, others, compute_mode="donot_use_mm_for_euclid_dist")
            nearest, place = distances.square().div(given.shape[1]).min(1)
            found = torch.where(nearest < errors, place + start, found)
            errors = torch.minimum(errors, nearest)
        pictures = self.train.__getitems__(found.tolist())["images"].numpy()
        return Nearest(pictures, errors.numpy(), among, len(self.train))
