"""The paper's convolutional encoder and decoder (arXiv 1711.00937, section 4.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualStack(nn.Module):
    """Residual blocks of ReLU, 3×3 convolution, ReLU, 1×1 convolution, and a last ReLU.

    Shape: ``[B, C, H, W]`` to the same.
    """

    def __init__(self, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, hidden, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(hidden, channels, 1),
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x [B, C, H, W]``."""
        for block in self.blocks:
            x = x + block(x)
        return F.relu(x)


class Encoder(nn.Module):
    """Strided 4×4 convolutions, a 3×3 convolution, residual blocks, and a projection to D channels.

    Args:
        channels: Channels of an image, C.
        dim: Channels of a latent vector, D.
        hidden: Width of the network.
        residual_hidden: Width inside a residual block.
        residual_layers: Number of residual blocks.
        factor: Downsampling factor f, a power of two.

    Shape: ``[B, C, H, W]`` to ``[B, D, H / f, W / f]``.

    Raises:
        ValueError: If the factor is not a power of two of at least 2.
    """

    def __init__(
        self, channels: int, dim: int, hidden: int, residual_hidden: int, residual_layers: int, factor: int
    ) -> None:
        super().__init__()
        widths = strided_widths(hidden, factor)
        layers: list[nn.Module] = []
        for inner, outer in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(inner, outer, 4, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(hidden, hidden, 3, padding=1),
            ResidualStack(hidden, residual_hidden, residual_layers),
            nn.Conv2d(hidden, dim, 1),
        )
        self.factor = factor
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``[B, D, H / f, W / f]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self.layers(images)


class Decoder(nn.Module):
    """The encoder's mirror: a 3×3 convolution, residual blocks, transposed 4×4 convolutions.

    Args:
        channels: Channels of an image, C.
        dim: Channels of a latent vector, D.
        hidden: Width of the network.
        residual_hidden: Width inside a residual block.
        residual_layers: Number of residual blocks.
        factor: Upsampling factor f, a power of two.

    Shape: ``[B, D, H / f, W / f]`` to ``[B, C, H, W]``.

    Raises:
        ValueError: If the factor is not a power of two of at least 2.
    """

    def __init__(
        self, channels: int, dim: int, hidden: int, residual_hidden: int, residual_layers: int, factor: int
    ) -> None:
        super().__init__()
        widths = strided_widths(hidden, factor)[::-1]
        layers: list[nn.Module] = []
        for inner, outer in zip(widths, [*widths[1:], channels], strict=True):
            layers += [nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, padding=1),
            ResidualStack(hidden, residual_hidden, residual_layers),
            *layers[:-1],  # the image itself is not rectified
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of ``latents [B, D, H / f, W / f]``."""
        return self.layers(latents)


def strided_widths(hidden: int, factor: int) -> list[int]:
    """Output channels of each strided convolution: half the width at the finest resolution, then all of it."""
    if factor < 2 or factor & (factor - 1):
        raise ValueError(f"factor is a power of two of at least 2, got {factor}")
    halvings = factor.bit_length() - 1
    return [hidden // 2] * (halvings > 1) + [hidden] * (halvings - (halvings > 1))
