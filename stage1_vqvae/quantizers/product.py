"""Product quantization: groups of channels, with a codebook each or with one for all."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.composite import Copies, Wrapper
from stage1_vqvae.quantizers.shapes import checked


class Product(Copies):
    """Splits the channels into groups of equal size and quantizes each with a codebook of its own.

    G groups of K codes tell K^G vectors apart (product quantization, doi 10.1109/TPAMI.2010.57). The loss is the mean
    of the groups'.

    Args:
        quantizer: Any quantizer; D is its number of channels times the groups.
        groups: G.

    Raises:
        ValueError: If there is no group.

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


class MultiHead(Wrapper):
    """Splits the channels into heads of equal size and quantizes all of them with one shared codebook.

    Args:
        quantizer: Any quantizer; D is its number of channels times the heads.
        heads: H.

    Raises:
        ValueError: If there is no head.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial, H]``.
    """

    def __init__(self, quantizer: Quantizer, heads: int = 4) -> None:
        if heads < 1:
            raise ValueError(f"heads is at least 1, got {heads}")
        super().__init__(quantizer, quantizer.dim * heads, times=heads)
        self.heads = heads

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        heads = checked(z, self.dim).unflatten(1, (self.heads, -1)).transpose(1, 2)  # [B, D / H, H, *spatial]
        # Contiguous, so that compiled backward passes find the strides that they were traced with.
        vectors, codes, loss = self.quantizer(heads.contiguous())
        return Quantized(vectors.transpose(1, 2).contiguous().flatten(1, 2), self._join(codes), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial, H]``."""
        depth = len(self.quantizer.codebook_sizes)
        deep = codes if len(self.codebook_sizes) > 1 else codes[..., None]
        heads = deep.unflatten(-1, (self.heads, depth)).movedim(-2, 1)  # [B, H, *spatial, depth]
        vectors = self.quantizer.lookup(heads.squeeze(-1))  # of one depth has no axis for it
        return vectors.transpose(1, 2).flatten(1, 2)

    def _join(self, codes: Tensor) -> Tensor:
        """The inner codes ``[B, H, *spatial]`` or ``[B, H, *spatial, depth]`` as ``[B, *spatial, H · depth]``."""
        deep = codes if len(self.quantizer.codebook_sizes) > 1 else codes[..., None]
        return deep.movedim(1, -2).flatten(-2).contiguous().squeeze(-1)  # a single code of a vector has no axis for it
