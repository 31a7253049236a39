"""SimVQ (arXiv 2411.02038): a frozen codebook behind a learned linear map, so that all codes move together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.estimators import Estimator
from stage1_vqvae.quantizers.moments import moments_over_ranks
from stage1_vqvae.quantizers.nearest_neighbour import NearestNeighbour
from stage1_vqvae.quantizers.ranks import from_first_rank

RIDGE = 1e-6
"""Share of the mean variance that is added to the variance of every channel."""


class SimVQ(NearestNeighbour):
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
        gradient: How the decoder's gradient passes to the encoder: ``straight_through`` or ``rotation``.

    Raises:
        ValueError: If a value is out of range.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        commitment_cost: float = 0.25,
        gradient: Estimator = "straight_through",
    ) -> None:
        super().__init__(dim, codebook_size, commitment_cost, gradient)
        self.register_buffer("frozen", torch.empty(codebook_size, dim, dtype=torch.float32))
        self.map = nn.Linear(dim, dim, dtype=torch.float32)
        self.reset_parameters()

    frozen: Tensor

    def reset_parameters(self) -> None:
        """Draw the frozen codebook and its map; the next training batch starts the map anew."""
        nn.init.normal_(self.frozen)
        self.map.reset_parameters()
        self._set_started(False)

    def codewords(self) -> Tensor:
        """``C W + b [K, D]``, always the whole of it: products of fewer rows round differently."""
        with torch.autocast(self.frozen.device.type, enabled=False):
            return self.map(self.frozen)

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """Give the codes the moments of ``rows [N, D]`` of all ranks."""
        mean, covariance = moments_over_ranks(rows)
        # A little of every direction, for batches that do not span them all. The variant that checks its input on the
        # host is not needed: what fails is not finite.
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
        root = torch.linalg.cholesky_ex(covariance).L
        known = root.isfinite().all() & (root.diagonal() > 0).all()  # without it the map keeps its random start
        self.map.weight.copy_(torch.where(known, root, self.map.weight))
        self.map.bias.copy_(torch.where(known, mean, self.map.bias))
        from_first_rank(self.map.weight, self.map.bias)
        self._set_started(True)
