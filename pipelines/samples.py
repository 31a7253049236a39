"""What a generator draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stage1_vqvae.data.augmentation import to_uint8


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
