"""Distributions over the 256 levels of every sub-pixel: what a decoder's outputs mean where bits are to be counted.

Sub-pixels are independent given the codes. Each has a mixture of continuous distributions, cut into 256 bins of equal
width around the levels of [-1, 1]; the first and the last bin take the tails, so that the probabilities sum to one
(PixelCNN++, arXiv 1701.05517, equation 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.autograd.function import FunctionCtx

from stage1_vqvae.devices import widest_float

LEVELS = 256
"""Values that a sub-pixel takes."""

HALF_BIN = 1 / (LEVELS - 1)
"""Half the distance of two levels in [-1, 1]."""

LOG_SCALES = (-7.0, 7.0)
"""Bounds of the logarithms of scales; the lower one is PixelCNN++'s, an eighth of a bin."""


class Likelihood(ABC):
    """A distribution of images given a decoder's outputs, independent over sub-pixels.

    The outputs ``[B, C · P, H, W]`` hold for each of C channels P numbers: locations, logarithms of scales and, for
    mixtures, logits of the components' weights.

    Args:
        mixture: Components.

    Raises:
        ValueError: If there is not one component at least.
    """

    def __init__(self, mixture: int = 1) -> None:
        if mixture < 1:
            raise ValueError(f"mixture is at least 1, got {mixture}")
        self.mixture = mixture

    def outputs(self, channels: int) -> int:
        """Channels that a decoder needs for images of ``channels``."""
        return channels * self.mixture * (3 if self.mixture > 1 else 2)

    def images(self, outputs: Tensor) -> Tensor:
        """The expected image ``[B, C, H, W]`` in [-1, 1], as its components' locations say it."""
        locations, _, log_weights = self._parameters(outputs)
        return (log_weights.exp() * locations.clamp(-1, 1)).sum(2)

    def nats(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Negative log-likelihood of each image in nats, summed over its sub-pixels: ``[B]``.

        Args:
            outputs: Of the decoder, ``[B, C · P, H, W]``.
            images: ``[B, C, H, W]`` in [-1, 1], rounded to the nearest of the 256 levels.
        """
        return -self.log_probabilities(outputs, images).flatten(1).sum(1).to(torch.float32)

    def log_probabilities(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Log-probability of every sub-pixel's level, ``[B, C, H, W]``; arguments as for :meth:`nats`."""
        locations, log_scales, log_weights = self._parameters(outputs)
        level = ((images[:, :, None] + 1) / (2 * HALF_BIN)).round()  # [B, C, 1, H, W]
        centred = level * (2 * HALF_BIN) - 1 - locations  # [B, C, mixture, H, W]
        lower, upper = ((centred + side) * (-log_scales).exp() for side in (-HALF_BIN, HALF_BIN))
        inside = self._log_between(lower, upper)
        low, high = self._log_below(upper), self._log_below(-lower)  # the tails; all families here are symmetric
        log_bins = torch.where(level <= 0, low, torch.where(level >= LEVELS - 1, high, inside))
        return (log_weights + log_bins).logsumexp(2)

    def _parameters(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Locations, logarithms of scales and of weights, each ``[B, C, mixture, H, W]``."""
        parts = rearrange(
            outputs.float(), "b (c p m) h w -> p b c m h w", p=self.outputs(1) // self.mixture, m=self.mixture
        )
        log_weights = F.log_softmax(parts[2], dim=2) if self.mixture > 1 else torch.zeros_like(parts[0])
        return parts[0], BoundedLogScale.apply(parts[1]), log_weights

    @abstractmethod
    def _log_below(self, z: Tensor) -> Tensor:
        """Log of the standard distribution's probability below ``z``."""

    @abstractmethod
    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Log of the standard distribution's probability between two places."""


class DiscretizedLogistic(Likelihood):
    """A mixture of discretised logistics (PixelCNN++, arXiv 1701.05517, equation 2), sub-pixels independent.

    Args:
        mixture: Components.
    """

    def _log_below(self, z: Tensor) -> Tensor:
        return F.logsigmoid(z)

    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        # σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)): exact, and finite where the difference itself is rounded away.
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + log1mexp(upper - lower)


class Gaussian(Likelihood):
    """A mixture of Gaussians, discretised in the same way.

    Args:
        mixture: Components.
    """

    def _log_below(self, z: Tensor) -> Tensor:
        # In double precision where the device has it: the gradient is exp(z² / 2 + log Φ(z)), two large numbers that
        # cancel.
        return torch.special.log_ndtr(z.to(widest_float(z.device)))

    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        mirrored = lower + upper > 0  # both places in the left tail, where log Φ loses nothing
        left = torch.where(mirrored, -upper, lower)
        right = torch.where(mirrored, -lower, upper)
        log_right = self._log_below(right)
        return log_right + log1mexp(log_right - self._log_below(left))


class BoundedLogScale(torch.autograd.Function):
    """Clamps to :data:`LOG_SCALES`; outside, gradients that lead back inside pass and the others are 0.

    A plain clamp has no gradient outside: a scale that was once beyond a bound would stay there.
    """

    @staticmethod
    def forward(log_scales: Tensor) -> Tensor:
        """The clamped values of ``log_scales``, of any shape."""
        return log_scales.clamp(*LOG_SCALES)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        """Remember where the values were."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        """The gradient to the values: a step of descent goes against it."""
        (log_scales,) = ctx.saved_tensors  # type: ignore[attr-defined]
        lower, upper = LOG_SCALES
        outward = (log_scales < lower) & (gradient > 0) | (log_scales > upper) & (gradient < 0)
        return gradient.masked_fill(outward, 0)


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - exp(-x))`` for ``x > 0``."""
    return torch.log(-torch.expm1(-x))
