"""Binary codes without a codebook: lookup-free (arXiv 2310.05737) and binary spherical (arXiv 2406.07548)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_vqvae.quantizers import binary_entropy
from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import straight_through
from stage1_vqvae.quantizers.search import unit_length
from stage1_vqvae.quantizers.shapes import checked, rows_of


class LookupFree(Quantizer):
    """Each channel's sign is a bit, its vector ±1 (LFQ of MAGVIT-v2, arXiv 2310.05737, section 3.1).

    The loss is ``β |z - sg[q]|² + w (E[H(p)] - λ H(E[p]))`` with p the softmax of ``-|z - c|² / T`` over all K = 2^D
    codes c: entropy of each vector's code down, entropy of the mean of these distributions over the batch (that of
    all ranks) up. Both are exact: ``|z - c|²`` is a sum over channels, and so the bits are independent. They hold
    N × 2^(D/2) numbers.

    Bit d of a code is channel d. A channel of exactly 0 gives the bit 0.

    It is for codebooks of 2^16 codes and more. With few bits :class:`BinarySpherical` reconstructs better, whatever the
    weights here: a small β or w leaves few codes in use, and a large β keeps signs from changing.

    Args:
        dim: D, channels of a vector and bits of a code.
        commitment_cost: β, weight of the commitment term.
        entropy: w, weight of both entropy terms; 0 computes none.
        diversity: λ, weight of the second against the first.
        temperature: T; with 1 the terms hardly act on the small vectors of a first training step, and one code is left.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 9,
        commitment_cost: float = 0.25,
        entropy: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 <= dim <= 24:
            raise ValueError(f"dim is the number of bits, 1 to 24, got {dim}")
        if temperature <= 0:
            raise ValueError(f"temperature is above 0, got {temperature}")
        self.dim = dim
        self.codebook_sizes = (2**dim,)
        self.commitment_cost = commitment_cost
        self.entropy = entropy
        self.diversity = diversity
        self.temperature = temperature
        self.register_buffer("place", torch.arange(dim), persistent=False)  # a constant, no state

    place: Tensor

    @property
    def radius(self) -> float:
        """Size of a quantized channel."""
        return 1.0

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = self._placed(checked(z, self.dim))
            codes = ((z.movedim(1, -1) > 0).long() << self.place).sum(-1)
            corner = self.lookup(codes)
            loss = self.commitment_cost * F.mse_loss(z, corner)
            if self.entropy > 0:
                loss = loss + self.entropy * self._entropies(rows_of(z))
            return Quantized(straight_through(z, corner), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        bits = codes[..., None] >> self.place & 1
        return ((2 * bits - 1).float() * self.radius).movedim(-1, 1)

    def _placed(self, z: Tensor) -> Tensor:
        """Where ``z [B, D, *spatial]`` is compared with the codes."""
        return z

    def _entropies(self, flat: Tensor) -> Tensor:
        """``E[H(p)] - λ H(E[p])`` of ``flat [N, D]``."""
        logits = flat * (4 * self.radius / self.temperature)  # |z + c|² - |z - c|² of a channel is 4 z c
        mean = binary_entropy.mean_distribution(logits)
        if self.training:
            mean = binary_entropy.over_ranks(mean, len(flat))
        return binary_entropy.sample_entropy(logits) - self.diversity * binary_entropy.entropy(mean)


class BinarySpherical(LookupFree):
    """Lookup-free quantization on the unit sphere: codes are ±1/√D (BSQ, arXiv 2406.07548, section 4).

    The vector is first scaled to length 1, which bounds its distance to the code: no commitment is needed. Loss and
    shapes are those of :class:`LookupFree`.

    Args:
        dim: D, channels of a vector and bits of a code.
        commitment_cost: β, weight of the commitment term.
        entropy: w, weight of both entropy terms; 0 computes none.
        diversity: λ, weight of the second against the first.
        temperature: T.
    """

    def __init__(
        self,
        dim: int = 9,
        commitment_cost: float = 0.0,
        entropy: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(dim, commitment_cost, entropy, diversity, temperature)

    @property
    def radius(self) -> float:
        """Size of a quantized channel."""
        return self.dim**-0.5

    def _placed(self, z: Tensor) -> Tensor:
        return unit_length(z, dim=1)
