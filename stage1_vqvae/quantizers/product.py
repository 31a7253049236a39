"""Product quantization: groups of channels, each with a quantizer of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.composite import Composite
from stage1_vqvae.quantizers.shapes import checked


class Product(Composite):
    """Splits the channels into groups of equal size and quantizes each on its own (heads, product quantization).

    G groups of K codes tell K^G vectors apart. The loss is the mean of the groups'.

    Args:
        quantizer: Any quantizer; D is its number of channels times the groups.
        groups: G.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial, G]``.
    """

    def __init__(self, quantizer: Quantizer, groups: int = 4) -> None:
        if groups < 1:
            raise ValueError(f"groups is at least 1, got {groups}")
        super().__init__(quantizer, groups)
        self.dim = quantizer.dim * groups

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        groups = checked(z, self.dim).chunk(len(self.quantizers), dim=1)
        found = [quantizer(group) for quantizer, group in zip(self.quantizers, groups, strict=True)]
        vectors = torch.cat([each.vectors for each in found], dim=1)
        loss = torch.stack([each.loss for each in found]).mean()
        return Quantized(vectors, self._join([each.codes for each in found]), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial, G]``."""
        groups = zip(self.parts(), self._split(codes), strict=True)
        return torch.cat([quantizer.lookup(part) for quantizer, part in groups], dim=1)
