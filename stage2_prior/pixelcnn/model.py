"""A gated PixelCNN over the layout's grids (arXiv 1606.05328), finer grids conditioned on coarser ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.norms import ChannelNorm
from stage2_prior.pixelcnn.attention import CausalAttention
from stage2_prior.pixelcnn.cache import CachedPixelCNN
from stage2_prior.pixelcnn.conditioning import Condition
from stage2_prior.pixelcnn.level import PixelCNNLevel
from stage2_prior.prior import Prior


class PixelCNN(Prior):
    """One :class:`GatedStack` per grid, each conditioned on the class and, as in VQ-VAE-2, on all coarser grids.

    What shapes a stack is one value for all grids or a list with one for each, coarse to fine.

    Args:
        layout: How the codes are laid out; grids of one axis are taken as a single row.
        num_classes: Number of classes; 0 for a prior without labels.
        width: Channels of the vertical and of the horizontal stack.
        layers: Gated layers of each grid's stack.
        kernel: Side of the kernels that the cropped ones are part of, odd and at least 3. With
            r = ``layers * (kernel // 2)``, a place sees r + 1 rows above, r columns to either side in them,
            and r + 1 places to its left.
        dropout: On what each gated layer adds to the horizontal stack.
        coarse_blocks: Residual blocks that coarser grids go through, at each of their resolutions.
        attention_every: Self-attention after every so many layers, with which a place sees all codes of its grid
            before it; None for no attention.
        heads: Attention heads.

    Raises:
        ValueError: If the kernel is even or less than 3, a grid has three axes, a list has not one value for
            each grid, or the attention does not fit the layers and the width.
    """

    def __init__(
        self,
        layout: CodeLayout,
        num_classes: int = 0,
        *,
        width: int | Sequence[int] = 64,
        layers: int | Sequence[int] = 15,
        kernel: int | Sequence[int] = 3,
        dropout: float | Sequence[float] = 0.1,
        coarse_blocks: int | Sequence[int] = 2,
        attention_every: int | Sequence[int | None] | None = None,
        heads: int | Sequence[int] = 4,
    ) -> None:
        super().__init__(layout, num_classes)
        shaped = {
            "width": width,
            "layers": layers,
            "kernel": kernel,
            "dropout": dropout,
            "coarse_blocks": coarse_blocks,
            "attention_every": attention_every,
            "heads": heads,
        }
        each = {name: per_grid(name, value, len(layout.grids)) for name, value in shaped.items()}
        self.stacks = nn.ModuleList(
            grid_stack(layout, level, num_classes, **{name: values[level] for name, values in each.items()})
            for level in range(len(layout.grids))
        )

    @property
    def grid_stacks(self) -> list[GatedStack]:
        """The stacks of the grids in order."""
        return [stack for stack in self.stacks if isinstance(stack, GatedStack)]

    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']`` and class indices ``labels [B]``."""
        logits: list[Tensor] = []
        coarser: list[Tensor] = []
        ends = list(accumulate(self.layout.lengths))
        for stack, own in zip(self.grid_stacks, codes.tensor_split(ends[:-1], dim=1), strict=True):
            if own.shape[1] == 0:
                break  # the prefix ends before this grid
            rows = -(-own.shape[1] // stack.shape[1])
            missing = rows * stack.shape[1] - own.shape[1]
            grid = F.pad(own, (0, missing)).unflatten(1, (rows, -1))  # [B, rows, W]
            found = stack(grid, stack.condition(labels, coarser)).flatten(1, 2)[:, : own.shape[1]]
            logits.append(F.pad(found, (0, self.layout.vocabulary - found.shape[2])))
            coarser.append(grid)
        return torch.cat(logits, dim=1)

    def level(self, grid: int) -> PixelCNNLevel:
        """One grid's stack, to be trained apart from the others.

        Raises:
            ValueError: If there is no such grid.
        """
        if not 0 <= grid < len(self.stacks):
            raise ValueError(f"grids are 0 to {len(self.stacks) - 1}, coarse to fine, got level {grid}")
        return PixelCNNLevel(self, grid)

    def incremental(self, labels: Tensor) -> CachedPixelCNN:
        """The prior at the start of drawing codes for ``labels [B]``; an image costs about one forward pass."""
        return CachedPixelCNN(self, labels)


def per_grid(name: str, value: Any, grids: int) -> Sequence[Any]:
    """One value for each grid, coarse to fine, of a list or of one value for all.

    Raises:
        ValueError: If a list has not one for each.
    """
    if not isinstance(value, Sequence):
        return [value] * grids
    if len(value) != grids:
        raise ValueError(f"{name}: one value, or one for each of {grids} grids, coarse to fine, got {list(value)}")
    return value


def grid_stack(
    layout: CodeLayout,
    level: int,
    num_classes: int,
    *,
    width: int,
    layers: int,
    kernel: int,
    dropout: float,
    coarse_blocks: int,
    attention_every: int | None,
    heads: int,
) -> GatedStack:
    """The stack of one of a layout's grids; the arguments are one grid's of :class:`PixelCNN`."""
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel is odd and at least 3, got {kernel}")
    if attention_every is not None and not 1 <= attention_every <= layers:
        raise ValueError(f"attention_every is from 1 to layers = {layers}, or null, got {attention_every}")
    if attention_every is not None and width % heads:
        raise ValueError(f"heads divide the width, got {heads} heads and width {width}")
    shapes = [plane(grid) for grid in layout.grids[: level + 1]]
    *coarser, own = layout.codebook_sizes[: level + 1]
    condition = Condition(shapes, width, num_classes, coarser, coarse_blocks)
    stack = GatedStack(shapes[-1], own, condition, width, layers, kernel, dropout)
    if attention_every is not None:
        stack.add_attention(attention_every, heads, dropout)
    return stack


def plane(grid: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a grid of one or two axes; one axis is a row.

    Raises:
        ValueError: If it has three.
    """
    if len(grid) > 2:
        raise ValueError(f"a PixelCNN takes grids of one or two axes, got {grid}: use a transformer")
    *_, height, width = (1, *grid)
    return height, width


class Streams(NamedTuple):
    """Features ``[B, C, H, W]`` of the two stacks.

    Those of ``vertical`` at row i know the codes of the rows above i, those of ``horizontal`` also the codes to
    their left.
    """

    vertical: Tensor
    horizontal: Tensor


class GatedStack(nn.Module):
    """A gated PixelCNN over one grid: codes and a condition to logits.

    The codes' embeddings enter shifted, one row down for the vertical stack and one column right for the
    horizontal one. That is mask A; all layers after it may look at their own place (mask B) and are alike.

    Args:
        shape: Height and width of the grid.
        codebook_size: Number of codes.
        condition: Makes what all layers are conditioned on; the caller runs it, once for a whole grid.
        channels, layers, kernel, dropout: As for :class:`PixelCNN`.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        codebook_size: int,
        condition: Condition,
        channels: int,
        layers: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.kernel = kernel
        self.code = nn.Embedding(codebook_size, channels)
        # Codes that begin alike learn from one another; far apart, as by default, each is learned by heart.
        nn.init.normal_(self.code.weight, std=0.02)
        self.place = nn.Parameter(torch.randn(channels, *shape) * 0.02)
        self.condition = condition
        self.layers = nn.ModuleList(GatedLayer(channels, kernel, dropout) for _ in range(layers))
        self.attention = nn.ModuleDict()  # by the layer that it comes after
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, codebook_size, 1)
        )

    @property
    def gated_layers(self) -> list[GatedLayer]:
        """The layers in order."""
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    @property
    def attention_after(self) -> dict[int, CausalAttention]:
        """Self-attention by the index of the layer that it comes after."""
        return {int(index): block for index, block in self.attention.items() if isinstance(block, CausalAttention)}

    def add_attention(self, every: int, heads: int, dropout: float) -> None:
        """Put self-attention after every so many layers."""
        channels = self.code.embedding_dim
        for index in range(every - 1, len(self.layers), every):
            self.attention[str(index)] = CausalAttention(channels, heads, dropout)

    def forward(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Logits ``[B, rows, W, codebook_size]`` of the first rows ``codes [B, rows, W]`` of the grid.

        Args:
            codes: The first rows, or all.
            condition: What :attr:`condition` returned, ``[B, C, H or 1, W or 1]``.
        """
        rows = codes.shape[1]
        known = self.code(codes)  # [B, rows, W, C]
        place = self.place[:, :rows]
        before = F.pad(known.flatten(1, 2), (0, 0, 1, -1))  # [B, rows * W, C]: shifted in raster order
        known = known.movedim(3, 1)  # [B, C, rows, W]
        streams = Streams(F.pad(known, (0, 0, 1, -1)) + place, F.pad(known, (1, -1)) + place)
        attention = self.attention_after
        for index, layer in enumerate(self.layers):
            streams = layer(streams, condition[:, :, :rows])
            if index in attention:
                streams = streams._replace(horizontal=attention[index](streams.horizontal, before))
        return self.head(streams.horizontal).movedim(1, 3)


class GatedLayer(nn.Module):
    """One gated layer of both stacks: figure 2 and equation 4 of arXiv 1606.05328.

    Unlike the paper's, the vertical stack adds its input too, and both see it normalised: without that, many layers
    learn more slowly.
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
            streams.vertical + gate(above),
            streams.horizontal + self.residual(self.dropout(gate(left))),
        )


def gate(x: Tensor) -> Tensor:
    """The gated activation of ``[B, 2C, H, W]``: ``tanh(first half) * sigmoid(second half)``, ``[B, C, H, W]``."""
    value, opening = x.chunk(2, dim=1)
    return value.tanh() * opening.sigmoid()


class CroppedConv2d(nn.Conv2d):
    """A masked convolution without the weights that the mask would clear.

    It sees each place, so many rows above and columns beside it, and nothing below.
    """

    def __init__(self, in_channels: int, out_channels: int, *, above: int, left: int, right: int) -> None:
        super().__init__(in_channels, out_channels, (above + 1, left + 1 + right))
        self.borders = (left, right, above, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x [B, C, H, W]``, keeping height and width."""
        return super().forward(F.pad(x, self.borders))
