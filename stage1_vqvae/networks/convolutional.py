"""The paper's convolutional encoder and decoder (arXiv 1711.00937, section 4.1)."""

from __future__ import annotations

from math import gcd
from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "group"]
"""What residual blocks normalize by: ``none``, with ReLU as in the paper, or ``group`` normalization, with SiLU."""


class ResidualStack(nn.Module):
    """Residual blocks of activation, 3×3 convolution, activation, 1×1 convolution, and a last activation.

    An activation is a ReLU, or group normalization (arXiv 1803.08494) and a SiLU. Normalized blocks start as the
    identity, their last convolution at zero.

    Args:
        channels: C.
        width: Width inside a block.
        layers: Number of blocks.
        norm: ``none`` or ``group``.

    Shape: ``[B, C, H, W]`` to the same.
    """

    def __init__(self, channels: int, width: int, layers: int, norm: Norm = "none") -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                activation(channels, norm),
                nn.Conv2d(channels, width, 3, padding=1),
                activation(width, norm),
                last_of_block(nn.Conv2d(width, channels, 1), norm),
            )
            for _ in range(layers)
        )
        self.last = activation(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x [B, C, H, W]``."""
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class Encoder(nn.Module):
    """Strided 4×4 convolutions, a 3×3 convolution, residual blocks, and a projection to D channels.

    Args:
        channels: Channels of an image, C.
        dim: Channels of a latent vector, D.
        width: Width of the network.
        residual_width: Width inside a residual block.
        residual_layers: Number of residual blocks.
        downsample_factor: Downsampling factor f, a power of two.
        norm: What its residual blocks normalize by, ``none`` or ``group``.

    Shape: ``[B, C, H, W]`` to ``[B, D, H / f, W / f]``.

    Raises:
        ValueError: If the factor is not a power of two of at least 2.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        width: int,
        residual_width: int,
        residual_layers: int,
        downsample_factor: int,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        widths = strided_widths(width, downsample_factor)
        layers: list[nn.Module] = []
        for inner, outer in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(inner, outer, 4, stride=2, padding=1), rectifier(norm)]
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(width, width, 3, padding=1),
            ResidualStack(width, residual_width, residual_layers, norm),
            nn.Conv2d(width, dim, 1),
        )
        self.downsample_factor = downsample_factor
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``[B, D, H / f, W / f]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self.layers(images)


class Decoder(nn.Module):
    """The encoder's mirror: a 3×3 convolution, residual blocks, transposed 4×4 convolutions.

    Args:
        channels: Channels of an image, C.
        dim: Channels of a latent vector, D.
        width: Width of the network.
        residual_width: Width inside a residual block.
        residual_layers: Number of residual blocks.
        downsample_factor: Upsampling factor f, a power of two.
        norm: What its residual blocks normalize by, ``none`` or ``group``.

    Shape: ``[B, D, H / f, W / f]`` to ``[B, C, H, W]``.

    Raises:
        ValueError: If the factor is not a power of two of at least 2.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        width: int,
        residual_width: int,
        residual_layers: int,
        downsample_factor: int,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        widths = strided_widths(width, downsample_factor)[::-1]
        layers: list[nn.Module] = []
        for inner, outer in zip(widths, [*widths[1:], channels], strict=True):
            layers += [nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1), rectifier(norm)]
        self.layers = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            ResidualStack(width, residual_width, residual_layers, norm),
            *layers[:-1],  # the image itself is not rectified
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of ``latents [B, D, H / f, W / f]``."""
        return self.layers(latents)


def strided_widths(width: int, factor: int) -> list[int]:
    """Output channels of each strided convolution: half the width at the finest resolution, then all of it."""
    steps = halvings(factor)
    return [width // 2] * (steps > 1) + [width] * (steps - (steps > 1))


def halvings(factor: int) -> int:
    """How often a factor halves the sides.

    Raises:
        ValueError: If it is not a power of two of at least 2.
    """
    if factor < 2 or factor & (factor - 1):
        raise ValueError(f"downsample_factor is a power of two of at least 2, got {factor}")
    return factor.bit_length() - 1


def rectifier(norm: Norm) -> nn.Module:
    """ReLU, or SiLU where the network is normalized."""
    return nn.ReLU() if norm == "none" else nn.SiLU()


def activation(channels: int, norm: Norm) -> nn.Module:
    """A rectifier, behind the norm of ``channels`` if there is one: groups of 16 channels, or more where 16 do not fit.

    Raises:
        ValueError: If the norm is neither ``none`` nor ``group``.
    """
    if norm == "none":
        return nn.ReLU()
    if norm == "group":
        return nn.Sequential(nn.GroupNorm(gcd(channels, max(channels // 16, 1)), channels), nn.SiLU())
    raise ValueError(f"norm is none or group, got {norm!r}")


def last_of_block(convolution: nn.Conv2d, norm: Norm) -> nn.Conv2d:
    """The convolution that ends a block; zeros in a normalized one, which lets more layers learn at higher rates."""
    if norm != "none":
        for parameter in convolution.parameters():
            nn.init.zeros_(parameter)
    return convolution
