"""The paper's convolutional encoder and decoder (arXiv 1711.00937, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "group"]
"""Normalization of residual blocks: ``none``, with ReLU as in the paper, or ``group``, with SiLU."""


class ResidualStack(nn.Module):
    """Residual blocks of activation, 3×3 convolution, activation, 1×1 convolution, and a last activation.

    An activation is a ReLU, or group normalization (arXiv 1803.08494) followed by a SiLU. Normalized blocks start as
    the identity: the weights of their last convolution are zero.

    Args:
        channels: C.
        width: Channels inside a block.
        layers: Number of blocks.
        norm: ``none`` or ``group``.

    Raises:
        ValueError: If there is no such norm.

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
        """Add the output of each block to ``x [B, C, H, W]``."""
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class Encoder(nn.Module):
    """Strided 4×4 convolutions, a 3×3 convolution, residual blocks, and a projection to D channels.

    Args:
        channels: Channels of an image, C.
        dim: Channels of a latent vector, D.
        width: Channels of the network.
        residual_width: Channels inside a residual block.
        residual_layers: Number of residual blocks.
        downsample_factor: f, a power of two of at least 2.
        norm: Normalization of the residual blocks.

    Shape: ``[B, C, H, W]`` to ``[B, D, H / f, W / f]``.

    Raises:
        ValueError: If downsample_factor is no power of two of at least 2, or there is no such norm.
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
        self.layers = nn.Sequential(
            *strided(nn.Conv2d, [channels, *strided_widths(width, downsample_factor)], norm),
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
        width: Channels of the network.
        residual_width: Channels inside a residual block.
        residual_layers: Number of residual blocks.
        downsample_factor: f, a power of two of at least 2, of the encoder: the decoder upsamples by it.
        norm: Normalization of the residual blocks.

    Shape: ``[B, D, H / f, W / f]`` to ``[B, C, H, W]``.

    Raises:
        ValueError: If downsample_factor is no power of two of at least 2, or there is no such norm.
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
        widths = [*reversed(strided_widths(width, downsample_factor)), channels]
        self.layers = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            ResidualStack(width, residual_width, residual_layers, norm),
            *strided(nn.ConvTranspose2d, widths, norm)[:-1],  # no activation behind the image
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of ``latents [B, D, H / f, W / f]``."""
        return self.layers(latents)


def strided(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], widths: Sequence[int], norm: Norm
) -> list[nn.Module]:
    """4×4 convolutions of stride 2, each followed by a rectifier, from one of the ``widths`` to the next."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [convolution(inner, outer, 4, stride=2, padding=1), rectifier(norm)]
    return layers


def strided_widths(width: int, downsample_factor: int) -> list[int]:
    """Output channels of the encoder's strided convolutions: half the width at first, where there are several.

    Raises:
        ValueError: If downsample_factor is no power of two of at least 2.
    """
    steps = halvings(downsample_factor)
    return [width // 2] * (steps > 1) + [width] * (steps - (steps > 1))


def halvings(downsample_factor: int) -> int:
    """How often downsampling by a factor halves the sides: its binary logarithm.

    Raises:
        ValueError: If it is no power of two of at least 2.
    """
    if downsample_factor < 2 or downsample_factor & (downsample_factor - 1):
        raise ValueError(f"downsample_factor is a power of two of at least 2, got {downsample_factor}")
    return downsample_factor.bit_length() - 1


def rectifier(norm: Norm) -> nn.Module:
    """ReLU, or SiLU where the network is normalized."""
    return nn.ReLU() if norm == "none" else nn.SiLU()


def activation(channels: int, norm: Norm) -> nn.Module:
    """A rectifier, with normalization before it if there is one: groups of 16 channels, of more where 16 do not fit.

    Raises:
        ValueError: If the norm is neither ``none`` nor ``group``.
    """
    if norm == "none":
        return nn.ReLU()
    if norm == "group":
        return nn.Sequential(nn.GroupNorm(gcd(channels, max(channels // 16, 1)), channels), nn.SiLU())
    raise ValueError(f"norm is none or group, got {norm!r}")


def last_of_block(convolution: nn.Conv2d, norm: Norm) -> nn.Conv2d:
    """The last convolution of a block. In a normalized one it starts at zero: deep stacks then learn at high rates."""
    if norm != "none":
        for parameter in convolution.parameters():
            nn.init.zeros_(parameter)
    return convolution
