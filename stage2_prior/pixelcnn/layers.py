"""The gated layer of a PixelCNN: a vertical and a horizontal stack without a blind spot (arXiv 1606.05328)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.norms import ChannelNorm


class Streams(NamedTuple):
    """Features ``[B, C, H, W]`` of the two stacks.

    Those of ``vertical`` at row i know the codes of the rows above i, those of ``horizontal`` also the codes to
    their left.
    """

    vertical: Tensor
    horizontal: Tensor


class GatedLayer(nn.Module):
    """One gated layer of both stacks: figure 2 and equation 4 of arXiv 1606.05328.

    It differs from the paper's in two ways, without which many layers learn more slowly: the vertical stack adds its
    input too, and both stacks normalise their input.

    Args:
        channels: C, of each stack.
        kernel: Side of the kernels that the cropped ones are part of, odd.
        dropout: On what the layer adds to the horizontal stack.
    """

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        reach = kernel // 2
        self.vertical_norm = ChannelNorm(channels)
        self.horizontal_norm = ChannelNorm(channels)
        self.vertical = CroppedConv2d(channels, 2 * channels, above=reach, left=reach, right=reach)
        self.horizontal = CroppedConv2d(channels, 2 * channels, above=0, left=reach, right=0)
        self.vertical_to_horizontal = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.condition = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.residual = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, streams: Streams, condition: Tensor) -> Streams:
        """Transform both stacks under ``condition [B, C, H or 1, W or 1]``."""
        to_vertical, to_horizontal = self.condition(condition).chunk(2, dim=1)
        vertical, horizontal = self.vertical_norm(streams.vertical), self.horizontal_norm(streams.horizontal)
        above = self.vertical(vertical) + to_vertical
        left = self.horizontal(horizontal) + self.vertical_to_horizontal(above) + to_horizontal
        return Streams(
            streams.vertical + gate(above, dim=1),
            streams.horizontal + self.residual(self.dropout(gate(left, dim=1))),
        )


def gate(x: Tensor, dim: int) -> Tensor:
    """The gated activation ``tanh(first half) * sigmoid(second half)`` along a dimension, which it halves."""
    value, opening = x.chunk(2, dim=dim)
    return value.tanh() * opening.sigmoid()


class CroppedConv2d(nn.Conv2d):
    """A masked convolution without the weights that the mask would clear.

    It sees the position itself, ``above`` rows above it and the given columns beside it, and nothing below.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        above: Rows above.
        left: Columns to the left.
        right: Columns to the right.
    """

    def __init__(self, in_channels: int, out_channels: int, *, above: int, left: int, right: int) -> None:
        super().__init__(in_channels, out_channels, (above + 1, left + 1 + right))
        self.borders = (left, right, above, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x [B, C, H, W]``, keeping height and width."""
        return super().forward(F.pad(x, self.borders))
