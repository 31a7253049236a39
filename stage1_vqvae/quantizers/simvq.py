"""SimVQ (arXiv 2411.02038): a frozen codebook behind a learned linear map, so that all codes move together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import ESTIMATORS, Estimator
from stage1_vqvae.quantizers.moments import moments_over_ranks
from stage1_vqvae.quantizers.search import nearest
from stage1_vqvae.quantizers.shapes import checked, rows_of


class SimVQ(Quantizer):
    """Nearest-neighbour quantization with the codebook ``C W + b``, C frozen noise (arXiv 2411.02038, section 4).

    The gradient of one code moves W and with it every code, so that none is left behind. The loss is
    ``|sg[z] - e|² + β |z - sg[e]|²``, each a mean over all elements.

    The map starts so that the codes have the mean and covariance of the first training batch (of all ranks): from
    elsewhere few of them are near any vector, and in a short training the encoder does not spread to meet the others.
    C has variance 1, not the 1/D of the authors' code: a step of Adam in W then moves codes √D times as far, without
    which the encoder outruns them in the first hundred steps and two codes are left.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment_cost: β, weight of the commitment term.
        gradient: How gradients pass the quantizer.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        commitment_cost: float = 0.25,
        gradient: Estimator = "straight_through",
    ) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 1:
            raise ValueError(f"dim and codebook_size are at least 1, got {dim} and {codebook_size}")
        if gradient not in ESTIMATORS:
            raise ValueError(f"gradient is {' or '.join(ESTIMATORS)}, got {gradient!r}")
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment_cost = commitment_cost
        self.gradient = gradient
        self.register_buffer("frozen", torch.empty(codebook_size, dim, dtype=torch.float32))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.map = nn.Linear(dim, dim, dtype=torch.float32)
        self.reset_parameters()

    frozen: Tensor
    started: Tensor

    def reset_parameters(self) -> None:
        """Draw the frozen codebook and the start of its map."""
        nn.init.normal_(self.frozen)
        self.map.reset_parameters()

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        z = checked(z, self.dim)
        flat = rows_of(z.detach())
        if self.training and not self.started:
            self._start(flat)
        codebook = self._codebook()
        codes = nearest(flat, codebook.detach()).view(z.shape[0], *z.shape[2:])
        nearby = F.embedding(codes, codebook).movedim(-1, 1)
        loss = F.mse_loss(nearby, z.detach()) + self.commitment_cost * F.mse_loss(z, nearby.detach())
        return Quantized(ESTIMATORS[self.gradient](z, nearby), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return F.embedding(codes, self._codebook()).movedim(-1, 1)

    def _codebook(self) -> Tensor:
        """``[K, D]``, always the whole of it: products of fewer rows round differently."""
        with torch.autocast(self.frozen.device.type, enabled=False):
            return self.map(self.frozen)

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """Give the codes the moments of ``flat [N, D]``."""
        mean, covariance = moments_over_ranks(flat)
        if mean.isfinite().all() and covariance.isfinite().all():
            variance, axes = torch.linalg.eigh(covariance)
            self.map.weight.copy_(axes * variance.clamp(min=0).sqrt())
            self.map.bias.copy_(mean)
            self.started.fill_(True)
