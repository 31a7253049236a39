"""VQGAN's encoder and decoder (arXiv 2012.09841, table 7): residual blocks, attention at the lowest resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Literal, get_args

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Border = Literal["all", "corner"]
"""Where zeros surround what a strided convolution sees: on all sides, or below and to the right alone."""


@dataclass(frozen=True)
class BlockStyle:
    """How blocks are made in the points in which implementations of VQGAN differ.

    The published models, and diffusers' ``VQModel``, are ``BlockStyle(32, 1e-6, "corner")``.

    Args:
        norm_groups: Groups of every normalization; None: 32, or as many fewer as leave two channels in a group.
        norm_eps: What is added to the variance in it.
        border: Of the strided convolutions.
        attention_at: Resolutions, 0 for the image's own, each of whose residual blocks has attention behind it.

    Raises:
        ValueError: If a value is out of range.
    """

    norm_groups: int | None = None
    norm_eps: float = 1e-5
    border: Border = "all"
    attention_at: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention_at", tuple(self.attention_at))
        if self.norm_groups is not None and self.norm_groups < 1:
            raise ValueError(f"norm_groups is at least 1, got {self.norm_groups}")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps is above 0, got {self.norm_eps}")
        if self.border not in get_args(Border):
            raise ValueError(f"border is {' or '.join(get_args(Border))}, got {self.border!r}")

    def check(self, widths: Sequence[int]) -> None:
        """Raise ValueError unless the style fits networks of these channels at each resolution."""
        if self.norm_groups is not None and any(width % self.norm_groups for width in widths):
            raise ValueError(f"norm_groups={self.norm_groups} does not divide all of {list(widths)} channels")
        if any(not 0 <= level < len(widths) for level in self.attention_at):
            raise ValueError(f"attention_at has numbers from 0 to {len(widths) - 1}, got {list(self.attention_at)}")

    def norm(self, channels: int) -> nn.GroupNorm:
        """A normalization of so many channels."""
        return nn.GroupNorm(self.norm_groups or groups_of(channels), channels, self.norm_eps)

    def norm_and_activation(self, channels: int) -> list[nn.Module]:
        """Group normalization and SiLU."""
        return [self.norm(channels), nn.SiLU()]

    def blocks(self, inputs: int, outputs: int, layers: int, level: int) -> list[nn.Module]:
        """Residual blocks of a resolution, the first of which changes the number of channels; attention behind each."""
        found: list[nn.Module] = []
        for layer in range(layers):
            found.append(ResidualBlock(inputs if layer == 0 else outputs, outputs, self))
            if level in self.attention_at:
                found.append(SelfAttention(outputs, self))
        return found

    def middle(self, channels: int, attention: bool) -> list[nn.Module]:
        """The blocks at the lowest resolution: a residual one, attention if it is wanted, and another residual one."""
        attended = [SelfAttention(channels, self)] if attention else []
        return [ResidualBlock(channels, channels, self), *attended, ResidualBlock(channels, channels, self)]


OWN_STYLE = BlockStyle()


class Downsampling(nn.Conv2d):
    """A 3×3 convolution that halves both sides.

    Args:
        channels: That come in and go out.
        border: Where zeros surround the input.

    Shape: ``[B, channels, H, W]`` to ``[B, channels, H / 2, W / 2]``, for even H and W.
    """

    def __init__(self, channels: int, border: Border) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1 if border == "all" else 0)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of an input ``[B, channels, H, W]``."""
        return super().forward(input if any(self.padding) else F.pad(input, (0, 1, 0, 1)))


class ResidualBlock(nn.Module):
    """Twice group normalization, SiLU and a 3×3 convolution, beside a shortcut.

    The second convolution starts at zero, so that a new block passes its input on and deep networks learn at once.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out; where they differ, the shortcut is a 1×1 convolution.
        style: Of the normalizations.

    Shape: ``[B, inputs, H, W]`` to ``[B, outputs, H, W]``.
    """

    def __init__(self, inputs: int, outputs: int, style: BlockStyle = OWN_STYLE) -> None:
        super().__init__()
        last = nn.Conv2d(outputs, outputs, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            *style.norm_and_activation(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            *style.norm_and_activation(outputs),
            last,
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output added to its input ``x [B, inputs, H, W]``."""
        return self.shortcut(x) + self.layers(x)


class SelfAttention(nn.Module):
    """Attention of every place to all places of the image, with one head, added to the input.

    Args:
        channels: C.
        style: Of the normalization.

    Shape: ``[B, C, H, W]`` to the same.
    """

    def __init__(self, channels: int, style: BlockStyle = OWN_STYLE) -> None:
        super().__init__()
        self.norm = style.norm(channels)
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
        style: How the blocks are made.

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
        style: BlockStyle = OWN_STYLE,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        blocks = style.blocks(widths[0], widths[0], layers, level=0)
        for level, (outer, inner) in enumerate(pairwise(widths), 1):
            blocks += [Downsampling(outer, style.border), *style.blocks(outer, inner, layers, level)]
        blocks += style.middle(widths[-1], attention)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = Blocks(blocks, recompute)
        self.last = nn.Sequential(*style.norm_and_activation(widths[-1]), nn.Conv2d(widths[-1], dim, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``[B, D, H / f, W / f]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self.last(self.blocks(self.first(images)))


class VQGANDecoder(nn.Module):
    """The encoder's mirror; nearest upsampling and a 3×3 convolution between two resolutions.

    Args:
        channels: Of the output, C.
        dim, width, multipliers, layers, attention, recompute, style: As for :class:`VQGANEncoder`.

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
        style: BlockStyle = OWN_STYLE,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in reversed(multipliers)]
        lowest = len(widths) - 1
        blocks = [*style.middle(widths[0], attention), *style.blocks(widths[0], widths[0], layers, lowest)]
        for level, (inner, outer) in enumerate(pairwise(widths), 1):
            upsampled = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(inner, inner, 3, padding=1))
            blocks += [upsampled, *style.blocks(inner, outer, layers, lowest - level)]
        self.first = nn.Conv2d(dim, widths[0], 3, padding=1)
        self.blocks = Blocks(blocks, recompute)
        self.last = nn.Sequential(*style.norm_and_activation(widths[-1]), nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of ``latents [B, D, H / f, W / f]``."""
        return self.last(self.blocks(self.first(latents)))


def groups_of(channels: int) -> int:
    """32 groups, or as many fewer as divide the channels and leave two in a group at least."""
    return gcd(channels, min(32, max(channels // 2, 1)))
