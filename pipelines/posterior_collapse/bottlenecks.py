"""What may lie between an encoder and an autoregressive decoder: Gaussian latents with a KL, or codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantizer


@dataclass(frozen=True)
class Latents:
    """What a bottleneck makes of an encoder's vectors.

    Attributes:
        vectors: ``[B, D, h, w]``, for the decoder.
        rate: ``[B]``, nats that the training's loss charges for them; zeros where it charges nothing.
        loss: What trains the bottleneck itself, a scalar.
        codes: int64 ``[B, h, w]``; None where there are none.
    """

    vectors: Tensor
    rate: Tensor
    loss: Tensor
    codes: Tensor | None = None


class Bottleneck(nn.Module, ABC):
    """Makes latents of ``z [B, D, h, w]``.

    Attributes:
        dim: D.
        codebook_size: K; 0 where there are no codes.
    """

    dim: int
    codebook_size: int = 0

    @abstractmethod
    def forward(self, z: Tensor) -> Latents:
        """Latents of ``z [B, D, h, w]``."""

    def step(self) -> None:
        """Move a codebook, after every optimiser step."""

    def discard(self) -> None:
        """Forget the passes since the last step, which was skipped."""


class GaussianLatents(Bottleneck):
    """A diagonal Gaussian for each image and its KL from the standard normal (arXiv 1312.6114, appendix B).

    In eval mode too the latents are drawn: a bound on the likelihood needs it.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.moments = nn.Conv2d(dim, 2 * dim, 1)

    def forward(self, z: Tensor) -> Latents:
        """Draw latents by reparameterisation."""
        mean, log_variance = self.moments(z).chunk(2, dim=1)
        log_variance = log_variance.clamp(-10, 10)
        vectors = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        rate = (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2
        return Latents(vectors, rate, vectors.new_zeros(()))


class CodeLatents(Bottleneck):
    """Codes of a quantizer: their prior is uniform while the model trains, so nothing charges for using them.

    Args:
        quantizer: Any with one code for each vector.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.dim = quantizer.dim
        (self.codebook_size,) = quantizer.codebook_sizes

    def forward(self, z: Tensor) -> Latents:
        """The vectors of the codes of ``z``, without a term of divergence."""
        quantized = self.quantizer(z)
        return Latents(quantized.vectors, z.new_zeros(len(z)), quantized.loss, quantized.codes)

    def step(self) -> None:
        """Move the codebook."""
        self.quantizer.step()

    def discard(self) -> None:
        """Let the codebook forget the passes since the last step."""
        self.quantizer.discard()
