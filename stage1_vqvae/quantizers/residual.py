"""Residual quantization (arXiv 2203.01941, 2107.03312): each quantizer works on what those before it left over."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.composite import Copies
from stage1_vqvae.quantizers.shapes import checked


class Residual(Copies):
    """The sum of several quantizers, ``r_0 = z`` and ``r_{i+1} = r_i - q_i(r_i)`` (arXiv 2203.01941, section 3.1).

    The loss is that of the quantizers without their commitment terms, and the commitment to every partial sum,
    ``β Σ_i |z - sg[q_0 + … + q_i]|²`` (equation 6). The term of i = 0 is the first quantizer's own, with its own β.

    Gradients of the vectors follow the chain of residuals: under straight-through each residual has none, and the
    sum's is the identity.

    Args:
        quantizer: Any quantizer, for the first depth; the others are copies.
        depth: How many.
        commitment_cost: β of the partial sums after the first; 0 for quantizers without commitment, as FSQ.
        scale: Depth i quantizes ``r_i / scale^i``: below 1 for quantizers whose grid is fixed (FSQ, LookupFree).
        dropout: Share of training samples whose vectors keep a random number of depths only, so that the first ones
            alone make a picture too (arXiv 2107.03312, section III-C). Their codes have all depths.

    Raises:
        ValueError: If a value is out of range.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial, depth]``.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        depth: int = 4,
        commitment_cost: float = 0.25,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth is at least 1, got {depth}")
        if scale <= 0:
            raise ValueError(f"scale is above 0, got {scale}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is in [0, 1], got {dropout}")
        super().__init__(quantizer, depth)
        self.dim = quantizer.dim
        self.commitment_cost = commitment_cost
        self.scales = [scale**i for i in range(depth)]
        self.dropout = dropout
        for deeper in self.parts()[1:]:
            deeper.drop_commitment()  # r_i - q_i is z less the partial sum: the same term would be there twice

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        z = residual = checked(z, self.dim)
        kept = self._depths_kept(z)
        total = vectors = torch.zeros_like(z)
        codes, losses = [], []
        for depth, (quantizer, scale) in enumerate(zip(self.quantizers, self.scales, strict=True)):
            found = quantizer(residual / scale)
            part = found.vectors * scale
            residual = residual - part
            total = total + part
            vectors = total if kept is None else torch.where(kept > depth, total, vectors)
            codes.append(found.codes)
            losses.append(found.loss)
            if depth > 0:
                losses.append(self.commitment_cost * F.mse_loss(z, total.detach()))
        return Quantized(vectors, self._join(codes), torch.stack(losses).sum())

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial, depth]``, or of the first depths' alone."""
        *_, total = self.lookup_partial_sums(codes)
        return total

    def lookup_partial_sums(self, codes: Tensor) -> list[Tensor]:
        """Vectors ``[B, D, *spatial]`` of the codes of one depth, two depths and so on.

        Args:
            codes: ``[B, *spatial, depth]``, or fewer depths.
        """
        parts = zip(self.parts(), self._split(codes), self.scales, strict=False)
        return list(accumulate(quantizer.lookup(part) * scale for quantizer, part, scale in parts))

    def _depths_kept(self, z: Tensor) -> Tensor | None:
        """How many depths each sample's vectors keep, ``[B, 1, ...]``; None for all."""
        if not self.training or self.dropout == 0:
            return None
        shape = (len(z), *[1] * (z.ndim - 1))
        some = torch.randint(1, len(self.quantizers) + 1, shape, device=z.device)
        return torch.where(torch.rand(shape, device=z.device) < self.dropout, some, len(self.quantizers))
