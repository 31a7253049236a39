"""Quantizers in models of other shapes: channels on the last axis, or another number of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.composite import Wrapper
from stage1_vqvae.quantizers.shapes import checked


class Projected(Wrapper):
    """Quantizes after a linear projection to the quantizer's own channels, and projects back (arXiv 2110.04627).

    Few channels, about 8, keep large codebooks in use. The loss is the inner quantizer's, in its own space.

    Args:
        quantizer: Any quantizer; its D is what other libraries call ``codebook_dim``.
        dim: Channels outside.

    Raises:
        ValueError: If dim is not positive.

    Shape: ``z [B, dim, *spatial]`` to vectors of that shape and the inner quantizer's codes.
    """

    def __init__(self, quantizer: Quantizer, dim: int = 64) -> None:
        if dim < 1:
            raise ValueError(f"dim is at least 1, got {dim}")
        super().__init__(quantizer, dim)
        self.project_in = nn.Linear(dim, quantizer.dim, dtype=torch.float32)
        self.project_out = nn.Linear(quantizer.dim, dim, dtype=torch.float32)

    def reset_parameters(self) -> None:
        """Draw a new random start of the projections and of the inner quantizer."""
        super().reset_parameters()
        self.project_in.reset_parameters()
        self.project_out.reset_parameters()

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, dim, *spatial]``.

        Raises:
            ValueError: If z has not dim channels.
        """
        with torch.autocast(z.device.type, enabled=False):
            vectors, codes, loss = self.quantizer(_along_channels(self.project_in, checked(z, self.dim)))
            return Quantized(_along_channels(self.project_out, vectors), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, dim, *spatial]`` of ``codes`` as :meth:`forward` returned them."""
        with torch.autocast(codes.device.type, enabled=False):
            return _along_channels(self.project_out, self.quantizer.lookup(codes))


class ChannelLast(Wrapper):
    """A quantizer for vectors with channels on the last axis, as transformers have them.

    Args:
        quantizer: Any quantizer.

    Shape: ``z [B, *spatial, D]`` to vectors of that shape and the inner quantizer's codes, ``[B, *spatial]``.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__(quantizer, quantizer.dim)

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, *spatial, D]``.

        Raises:
            ValueError: If z has not D channels on its last axis.
        """
        if z.ndim < 2 or z.shape[-1] != self.dim:
            raise ValueError(f"vectors [B, *spatial, {self.dim}] expected, got {list(z.shape)}")
        vectors, codes, loss = self.quantizer(z.movedim(-1, 1))
        return Quantized(vectors.movedim(1, -1), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, *spatial, D]`` of ``codes [B, *spatial]``."""
        return self.quantizer.lookup(codes).movedim(1, -1)


def _along_channels(projection: nn.Linear, vectors: Tensor) -> Tensor:
    """A projection of ``vectors [B, D, *spatial]`` along their channels.

    Contiguous on the way in and out, so that compiled backward passes find the strides that they were traced with.
    """
    return projection(vectors.movedim(1, -1).contiguous()).movedim(-1, 1).contiguous()
