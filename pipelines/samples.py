"""What a generator draws."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.inputs.numbers import whole_number
from pipelines.inputs.paths import path_of
from pipelines.tracking.image_grid import grid, save_image
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.data.preprocessing import MODES
from stage1_vqvae.files import replacing

if TYPE_CHECKING:
    import datasets

SHOWN = 100
"""Images that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Samples:
    """New images; a sequence of them: ``len(samples)``, ``samples[3]``, ``samples[:10]``, ``samples + more``.

    Attributes:
        images: float32 ``[N, C, H, W]`` in [0, 1].
        codes: int64 ``[N, T]``, what the prior drew.
        labels: int64 ``[N]``, the classes asked for; -1 without.
        log_probs: Log-probability in nats of each code under the prior given its label, without guidance, temperature
            and truncation, float32 ``[N, T]``; 0 for codes that were held.
    """

    images: Tensor
    codes: Tensor
    labels: Tensor
    log_probs: Tensor

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.images, self.codes, self.labels, self.log_probs

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: int | slice | Sequence[int] | Tensor) -> Samples:
        """Some of the images, in the order asked for; of one number a single one, N = 1."""
        if isinstance(which, slice):
            return Samples(*(tensor[which] for tensor in self._tensors))
        chosen = torch.arange(len(self))[torch.as_tensor(which)].reshape(-1)  # refuses what is out of range
        return Samples(*(tensor[chosen] for tensor in self._tensors))

    def __iter__(self) -> Iterator[Samples]:
        return (self[number] for number in range(len(self)))

    def __add__(self, other: Samples) -> Samples:
        """These images and then others of the same run."""
        return Samples(*(torch.cat(pair) for pair in zip(self._tensors, other._tensors, strict=True)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Samples):
            return NotImplemented
        return all(torch.equal(mine, theirs) for mine, theirs in zip(self._tensors, other._tensors, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"Samples({len(self)} images of {height}×{width}×{channels}, {self.codes.shape[1]} codes each)"

    @property
    def images_uint8(self) -> NDArray[np.uint8]:
        """The images as files hold them, uint8 ``[N, H, W, C]``."""
        return to_uint8(self.images * 2 - 1).numpy()

    def to_pil(self) -> list[Image.Image]:
        """The images as pictures of PIL: grey, grey and alpha, RGB or RGBA."""
        mode = MODES[self.images.shape[1]]
        return [Image.fromarray(one[..., 0] if mode == "L" else one, mode) for one in self.images_uint8]

    def grid(self, columns: int = 10) -> Image.Image:
        """The images in one picture, row by row.

        Raises:
            ValueError: If there is no column.
        """
        return grid(self.images_uint8, min(whole_number(columns, "columns", 1), len(self)))

    def save(self, path: str | Path, columns: int = 10) -> None:
        """Write the images: a picture of all of them to a ``.png`` file, arrays to an ``.npz`` file.

        Args:
            path: ``grid.png``, or ``samples.npz`` for ``images`` uint8 ``[N, H, W, C]``,
                ``labels`` and ``codes``, as the command writes them.
            columns: Of the picture.

        Raises:
            ValueError: If the name ends in neither.
        """
        file = path_of(path, "path")
        if file.suffix == ".npz":
            with replacing(file) as temporary, temporary.open("wb") as opened:
                labels, codes = self.labels.numpy(), self.codes.numpy()
                np.savez_compressed(opened, images=self.images_uint8, labels=labels, codes=codes)
        elif file.suffix == ".png":
            save_image(self.grid(columns), file)
        else:
            raise ValueError(f"path={path}: a name that ends in .png or .npz expected")

    def to_dataset(self) -> datasets.Dataset:
        """A data set of Hugging Face with the columns ``image``, ``label`` and ``codes``."""
        import datasets  # takes seconds

        columns = {"image": self.to_pil(), "label": self.labels.tolist(), "codes": self.codes.tolist()}
        return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the first images in a grid."""
        file = io.BytesIO()
        self[:SHOWN].grid().save(file, format="PNG")
        return file.getvalue()
