"""Index backpropagation quantization (IBQ, arXiv 2412.02692): the gradient of every vector reaches every code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.quantizers import binary_entropy
from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import index_straight_through
from stage1_vqvae.quantizers.shapes import check_sizes, checked, embed, rows_of


class IBQ(Quantizer):
    """The code with the largest product ``z·e``, with a straight-through one-hot index (arXiv 2412.02692, section 3.2).

    The index is hard in value and ``p = softmax(z·e)`` in gradient, so that all K codes move with the encoder, and none
    is left behind. The loss, as in the authors' code, is
    ``|z - q|² + β |z - sg[e]|² + γ |sg[z] - e|² + w (E[H(p')] - λ H(E[p']))``: q is the vector with the gradient of its
    index, e the same without, p' the softmax of ``z·e / T``, and the last term that of
    :class:`~stage1_vqvae.quantizers.LookupFree`. Holds N × K numbers.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment_cost: β, weight of the commitment term.
        codebook_cost: γ, weight of the term that moves the chosen code.
        entropy: w, weight of both entropy terms; 0 computes none.
        diversity: λ, weight of the entropy of the batch's mean against each vector's.
        temperature: T of the entropy terms.

    Raises:
        ValueError: If a value is out of range.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        commitment_cost: float = 1.0,
        codebook_cost: float = 0.25,
        entropy: float = 0.05,
        diversity: float = 1.0,
        temperature: float = 0.01,
    ) -> None:
        super().__init__()
        check_sizes(dim, codebook_size)
        if temperature <= 0:
            raise ValueError(f"temperature is above 0, got {temperature}")
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment_cost = commitment_cost
        self.codebook_cost = codebook_cost
        self.entropy = entropy
        self.diversity = diversity
        self.temperature = temperature
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim, dtype=torch.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start of the codebook: vectors of length about 1."""
        nn.init.normal_(self.codebook, std=self.dim**-0.5)

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = checked(z, self.dim)
            rows = rows_of(z)
            logits = rows @ self.codebook.T  # [N, K]
            codes = logits.argmax(1)
            vectors = index_straight_through(logits.softmax(1), codes, self.codebook)
            loss = self._loss(rows, vectors, F.embedding(codes, self.codebook))
            if self.entropy > 0:
                loss = loss + self.entropy * self._entropies(logits)
            grid = (z.shape[0], *z.shape[2:])
            return Quantized(vectors.view(*grid, self.dim).movedim(-1, 1), codes.view(grid), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return embed(codes, self.codebook)

    def _loss(self, rows: Tensor, vectors: Tensor, chosen: Tensor) -> Tensor:
        committed = self.commitment_cost * F.mse_loss(rows, chosen.detach())
        return F.mse_loss(vectors, rows) + committed + self.codebook_cost * F.mse_loss(chosen, rows.detach())

    def _entropies(self, logits: Tensor) -> Tensor:
        """``E[H(p)] - λ H(E[p])`` of ``logits [N, K]``."""
        shares = (logits / self.temperature).softmax(1)
        mean = shares.mean(0)
        if self.training:
            mean = binary_entropy.over_ranks(mean, len(shares))
        each = binary_entropy.entropy(shares) / len(shares)
        return each - self.diversity * binary_entropy.entropy(mean)
