"""VQGAN's encoder and decoder (arXiv 2012.09841, table 7): residual blocks, attention at the lowest resolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ResidualBlock(nn.Module):
    """Twice group normalization, SiLU and a 3×3 convolution, beside a shortcut.

    The second convolution starts at zero, so that a new block passes its input on and deep networks learn at once.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out; where they differ, the shortcut is a 1×1 convolution.

    Shape: ``[B, inputs, H, W]`` to ``[B, outputs, H, W]``.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        last = nn.Conv2d(outputs, outputs, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            *normalized(inputs), nn.Conv2d(inputs, outputs, 3, padding=1), *normalized(outputs), last
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output added to its input ``x [B, inputs, H, W]``."""
        return self.shortcut(x) + self.layers(x)


class SelfAttention(nn.Module):
    """Attention of every place to all places of the image, with one head, added to the input.

    Args:
        channels: C.

    Shape: ``[B, C, H, W]`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The attended values added to ``x [B, C, H, W]``."""
        query, key, value = rearrange(self.qkv(self.norm(x)), "b (three c) h w -> three b 1 (h w) c", three=3)
        attended = F.scaled_dot_product_attention(query, key, value)
        height, width = x.shape[-2:]
        return x + self.output(rearrange(attended, "b 1 (h w) c -> b c h w", h=height, w=width))


class Blocks(nn.Module):
    """Blocks one after another, whose activations are kept for the backward pass or computed again.

    Args:
        blocks: To be applied in turn.
        recompute: Whether activations inside each block are computed again in the backward pass, which needs a
            fraction of the memory and a third more time. No number changes.

    Shape: that of the blocks.
    """

    def __init__(self, blocks: Sequence[nn.Module], recompute: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        """The last block's output for ``x [B, C, H, W]``."""
        for block in self.blocks:
            if self.recompute and self.training and x.requires_grad:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class VQGANEncoder(nn.Module):
    """Residual blocks at each resolution, a strided 3×3 convolution between two, attention at the lowest.

    Args:
        channels: Of an image, C.
        dim: Channels of a latent vector, D.
        width: Channels that the multipliers multiply.
        multipliers: Of the width at each resolution, the image's own first; n of them downsample by f = 2ⁿ⁻¹.
        layers: Residual blocks at each resolution.
        attention: Whether there is self-attention at the lowest resolution.
        recompute: As for :class:`Blocks`.

    Shape: ``[B, C, H, W]`` to ``[B, D, H / f, W / f]``.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        width: int,
        multipliers: Sequence[int],
        layers: int,
        attention: bool,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        blocks: list[nn.Module] = residual_blocks(widths[0], widths[0], layers)
        for inner, outer in pairwise(widths):
            blocks += [nn.Conv2d(inner, inner, 3, stride=2, padding=1), *residual_blocks(inner, outer, layers)]
        blocks += middle(widths[-1], attention)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = Blocks(blocks, recompute)
        self.last = nn.Sequential(*normalized(widths[-1]), nn.Conv2d(widths[-1], dim, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``[B, D, H / f, W / f]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self.last(self.blocks(self.first(images)))


class VQGANDecoder(nn.Module):
    """The encoder's mirror; nearest upsampling and a 3×3 convolution between two resolutions.

    Args:
        channels: Of the output, C.
        dim, width, multipliers, layers, attention, recompute: As for :class:`VQGANEncoder`.

    Shape: ``[B, D, H / f, W / f]`` to ``[B, C, H, W]``.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        width: int,
        multipliers: Sequence[int],
        layers: int,
        attention: bool,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in reversed(multipliers)]
        blocks = [*middle(widths[0], attention), *residual_blocks(widths[0], widths[0], layers)]
        for inner, outer in pairwise(widths):
            upsampled = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(inner, inner, 3, padding=1))
            blocks += [upsampled, *residual_blocks(inner, outer, layers)]
        self.first = nn.Conv2d(dim, widths[0], 3, padding=1)
        self.blocks = Blocks(blocks, recompute)
        self.last = nn.Sequential(*normalized(widths[-1]), nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of ``latents [B, D, H / f, W / f]``."""
        return self.last(self.blocks(self.first(latents)))


def residual_blocks(inputs: int, outputs: int, layers: int) -> list[nn.Module]:
    """``layers`` residual blocks, the first of which changes the number of channels."""
    return [ResidualBlock(inputs if layer == 0 else outputs, outputs) for layer in range(layers)]


def middle(channels: int, attention: bool) -> list[nn.Module]:
    """The blocks at the lowest resolution: a residual one, attention if it is wanted, and another residual one."""
    attended = [SelfAttention(channels)] if attention else []
    return [ResidualBlock(channels, channels), *attended, ResidualBlock(channels, channels)]


def normalized(channels: int) -> list[nn.Module]:
    """Group normalization and SiLU."""
    return [nn.GroupNorm(groups_of(channels), channels), nn.SiLU()]


def groups_of(channels: int) -> int:
    """32 groups, or as many fewer as divide the channels and leave two in a group at least."""
    return gcd(channels, min(32, max(channels // 2, 1)))
