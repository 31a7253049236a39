"""Finite scalar quantization (arXiv 2309.15505): every channel is rounded to one of a few levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import straight_through
from stage1_vqvae.quantizers.shapes import checked

MARGIN = 1e-3
"""How far beyond the outer levels the bound lies, as a fraction: tanh need not reach 1 for them."""


class FSQ(Quantizer):
    """Rounds each channel, bounded by tanh, to a grid of its own number of levels (arXiv 2309.15505, section 3.1).

    There is no codebook to learn and no loss. A channel of L levels becomes one of the integers from ``-⌊L/2⌋`` on,
    over ``⌊L/2⌋``: with an odd L from -1 to 1, with an even one half a level lower. Zero always stays zero. The
    index counts levels in mixed radix, the first channel fastest.

    Args:
        levels: Number of levels of each channel, each at least 3 (two are what
            :class:`~stage1_vqvae.quantizers.lookup_free.LookupFree` is for); D is how many there are, K their product.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(self, levels: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        if not levels or min(levels) < 3:
            raise ValueError(f"levels are one number of at least 3 for each channel, got {list(levels)}")
        self.dim = len(levels)
        self.codebook_sizes = (math.prod(levels),)
        count = torch.tensor(levels)
        reach = (count - 1).float() * (1 + MARGIN) / 2
        offset = (count % 2 == 0).float() / 2
        # Constants, which follow to the device but are no state.
        self.register_buffer("count", count, persistent=False)
        self.register_buffer("place", torch.tensor([math.prod(levels[:d]) for d in range(self.dim)]), persistent=False)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("shift", torch.atanh(offset / reach), persistent=False)

    count: Tensor
    place: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        channels_last = checked(z, self.dim).movedim(1, -1)
        bounded = torch.tanh(channels_last + self.shift) * self.reach - self.offset
        level = bounded.detach().round()
        digits = level.nan_to_num().long() + self.count // 2
        vectors = straight_through(bounded, level) / (self.count // 2)
        return Quantized(vectors.movedim(-1, 1), (digits * self.place).sum(-1), 0 * bounded.sum())

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        digits = codes[..., None] // self.place % self.count
        half = self.count // 2
        return ((digits - half).float() / half).movedim(-1, 1)
