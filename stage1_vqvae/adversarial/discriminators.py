"""Networks that tell images from reconstructions, patch by patch, without statistics of batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stage1_vqvae.networks.lite0 import CHANNELS, Lite0
from stage1_vqvae.networks.vqgan import groups_of

DiscriminatorNorm = Literal["spectral", "group"]


class Discriminator(nn.Module, ABC):
    """Judges images: high where they look real.

    Attributes:
        smallest: Pixels along the shorter side of the smallest images that it can judge.
    """

    smallest: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, P]``, one a patch, of ``images [B, C, H, W]`` in [-1, 1]."""


class PatchDiscriminator(Discriminator):
    """PatchGAN (arXiv 1611.07004): convolutions whose every output sees one patch.

    Args:
        channels: C, of the images.
        width: Of the first convolution; each of the next two has twice as many channels.
        layers: Convolutions of stride 2. Three make patches of about 60 pixels.
        norm: ``spectral`` bounds every layer's norm (arXiv 1802.05957); ``group`` normalizes activations.

    Raises:
        ValueError: If there is no layer, or no such norm.
    """

    def __init__(self, channels: int, width: int = 64, layers: int = 3, norm: DiscriminatorNorm = "spectral") -> None:
        super().__init__()
        if layers < 1 or width < 2:
            raise ValueError(f"layers is at least 1 and width at least 2, got {layers} and {width}")
        if norm not in ("spectral", "group"):
            raise ValueError(f"norm is spectral or group, got {norm!r}")
        self.smallest = 2**layers
        widths = [width * min(2**layer, 4) for layer in range(layers)]
        self.layers = nn.Sequential(
            *judging(nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), norm, first=True),
            *(
                part
                for inner, outer in pairwise(widths)
                for part in judging(nn.Conv2d(inner, outer, 4, stride=2, padding=1), norm)
            ),
            *judging(nn.Conv2d(widths[-1], widths[-1], 3, padding=1), norm),
            bounded(nn.Conv2d(widths[-1], 1, 3, padding=1), norm),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, P]`` of ``images [B, C, H, W]``, one for each 2ᵏ × 2ᵏ pixels of k layers."""
        return self.layers(images).flatten(1)


class ProjectedDiscriminator(Discriminator):
    """Small heads on frozen features of EfficientNet-Lite0 (Projected GANs, arXiv 2111.01007, without mixing scales).

    Features of each scale go through a 1×1 convolution that stays as it was drawn, so that a head cannot look at few
    of them only.

    Args:
        width: Channels of each head.
        layers: Of the network, whose features are judged, as :class:`~stage1_vqvae.networks.lite0.Lite0` counts them.
        size: Pixels along the shorter side to which images are enlarged before; 0 leaves them.

    Raises:
        ValueError: If the packages that bring the network are not installed, or there is no such layer.
    """

    smallest = 2

    def __init__(self, width: int = 64, layers: Sequence[int] = (3, 5, 11, 16), size: int = 0) -> None:
        super().__init__()
        self.network = Lite0(layers)
        self.size = size
        scales = [CHANNELS[layer] for layer in sorted(set(layers))]
        self.projections = nn.ModuleList(nn.Conv2d(scale, width, 1, bias=False) for scale in scales)
        self.projections.requires_grad_(False)
        self.heads = nn.ModuleList(
            nn.Sequential(
                *judging(nn.Conv2d(width, width, 3, padding=1), "spectral"),
                bounded(nn.Conv2d(width, 1, 3, padding=1), "spectral"),
            )
            for _ in scales
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, P]`` of ``images [B, C, H, W]``, those of all scales one after another."""
        if min(images.shape[-2:]) < self.size:
            scale = self.size / min(images.shape[-2:])
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
        parts = zip(self.network(images), self.projections, self.heads, strict=True)
        return torch.cat([head(projection(features)).flatten(1) for features, projection, head in parts], dim=1)


def judging(convolution: nn.Conv2d, norm: DiscriminatorNorm, first: bool = False) -> list[nn.Module]:
    """A convolution, its normalization (none of activations in the ``first`` layer) and a leaky ReLU."""
    channels = convolution.out_channels
    normalized = [nn.GroupNorm(groups_of(channels), channels)] if norm == "group" and not first else []
    return [bounded(convolution, norm), *normalized, nn.LeakyReLU(0.2)]


def bounded(convolution: nn.Conv2d, norm: DiscriminatorNorm) -> nn.Module:
    """A convolution whose norm is bounded, if that is the way to normalize."""
    return spectral_norm(convolution) if norm == "spectral" else convolution
