"""The discrete VAE's quantizer: a sample of a categorical distribution (arXiv 1611.01144, 2102.12092)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import index_straight_through
from stage1_vqvae.quantizers.shapes import check_sizes, checked, embed, rows_of


class GumbelSoftmax(Quantizer):
    """Straight-through Gumbel-softmax (arXiv 1611.01144, section 2.2) over a codebook, as in DALL-E's dVAE.

    A linear map gives each vector logits of all K codes. In training a code is drawn from them, and its gradient is
    that of the softmax of the perturbed logits at temperature τ, which falls along a half cosine. In evaluation the
    likeliest code is taken. The loss is the Kullback-Leibler divergence to the uniform prior, a mean over vectors of
    nats, by its weight. The softmax holds N × K numbers. :meth:`step` counts the steps of the temperature.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        kl: Weight of the divergence.
        temperature: τ at the start.
        final_temperature: τ at the end and after it; arXiv 2102.12092 finds 1/16 close enough to sampling.
        anneal_steps: Optimiser steps from one to the other.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        kl: float = 5e-4,
        temperature: float = 1.0,
        final_temperature: float = 0.0625,
        anneal_steps: int = 10000,
    ) -> None:
        super().__init__()
        check_sizes(dim, codebook_size)
        if temperature <= 0 or final_temperature <= 0:
            raise ValueError(f"temperatures are above 0, got {temperature} and {final_temperature}")
        if anneal_steps < 1:
            raise ValueError(f"anneal_steps is at least 1, got {anneal_steps}")
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.kl = kl
        self.temperatures = (temperature, final_temperature)
        self.anneal_steps = anneal_steps
        self.logits = nn.Linear(dim, codebook_size, dtype=torch.float32)
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    steps: Tensor

    def reset_parameters(self) -> None:
        """Draw the start of codebook and logits."""
        nn.init.normal_(self.codebook)
        self.logits.reset_parameters()

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = checked(z, self.dim)
            logits = self.logits(rows_of(z))  # [N, K]
            shares = self._drawn(logits) if self.training else logits.softmax(1)
            codes = (shares if self.training else logits).argmax(1)
            vectors = index_straight_through(shares, codes, self.codebook)
            grid = (z.shape[0], *z.shape[2:])
            return Quantized(
                vectors.view(*grid, self.dim).movedim(-1, 1), codes.view(grid), self.kl * _divergence(logits)
            )

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return embed(codes, self.codebook)

    def step(self) -> None:
        """Go on in the schedule of the temperature."""
        self.steps += 1

    def temperature(self) -> Tensor:
        """τ at the present step, a scalar on the device."""
        start, end = self.temperatures
        progress = (self.steps.to(self.codebook.dtype) / self.anneal_steps).clamp(max=1)
        return end + (start - end) * (1 + torch.cos(math.pi * progress)) / 2

    def _drawn(self, logits: Tensor) -> Tensor:
        """A sample of the Gumbel-softmax distribution of ``logits [N, K]``: shares of the codes, ``[N, K]``."""
        noise = -torch.empty_like(logits).exponential_().log()
        return ((logits + noise) / self.temperature()).softmax(1)


def _divergence(logits: Tensor) -> Tensor:
    """From the uniform distribution to that of ``logits [N, K]``, in nats, mean over rows."""
    log = logits.log_softmax(1)
    return (log.exp() * log).sum(1).mean() + math.log(logits.shape[1])
