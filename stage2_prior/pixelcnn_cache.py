"""A gated PixelCNN's incremental form: only the new place is computed, so an image costs about one forward pass."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.pixelcnn_attention import CachedAttention

if TYPE_CHECKING:
    from stage2_prior.pixelcnn import GatedLayer, GatedStack, PixelCNN


class CachedPixelCNN:
    """A PixelCNN in the middle of drawing codes, one grid after another."""

    def __init__(self, prior: PixelCNN, labels: Tensor) -> None:
        self.prior = prior
        self.labels = prior.class_index(labels, len(labels), labels.device)
        self.codes = labels.new_zeros(len(labels), prior.layout.length)
        self.position = 0
        self.starts = list(accumulate(prior.layout.lengths, initial=0))  # of the grids, and the end
        self.stack = self._begin_grid(0)

    @torch.no_grad()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        if codes is not None:
            self.codes[:, self.position - 1] = codes
        level = bisect_right(self.starts, self.position) - 1
        start = self.starts[level]
        if self.position == start > 0:
            self.stack = self._begin_grid(level)
        logits = self.stack.next_logits(self.codes[:, start : self.position])
        self.position += 1
        return F.pad(logits, (0, self.prior.layout.vocabulary - logits.shape[1]), value=-torch.inf)

    @torch.no_grad()
    def _begin_grid(self, level: int) -> CachedStack:
        *coarser, stack = self.prior.grid_stacks[: level + 1]
        codes = [
            self.codes[:, start:end].unflatten(1, done.shape)
            for done, (start, end) in zip(coarser, pairwise(self.starts), strict=False)
        ]
        return CachedStack(stack, stack.condition(self.labels, codes))


class CachedStack:
    """A grid's gated stacks in the middle of it, with what the next place needs of those before.

    The vertical stack runs once for a whole row, and so does all that it and the condition give to the horizontal
    stack, which runs at one place. Each layer reads its inputs through a window that stays where it is and past
    which they move, so buffers and views are made once.

    Args:
        stack: The weights, as they are now.
        condition: What its ``condition`` returned, ``[B, C, H or 1, W or 1]``.
    """

    def __init__(self, stack: GatedStack, condition: Tensor) -> None:
        self.stack = stack
        self.condition = condition.permute(2, 3, 0, 1)  # [H or 1, W or 1, B, C]
        self.layers = [LayerWeights(layer) for layer in stack.gated_layers]
        self.head = [(layer.weight[:, :, 0, 0], bias_of(layer)) for layer in stack.head if isinstance(layer, nn.Conv2d)]
        batch, channels = condition.shape[:2]
        (height, width), depth, reach = stack.shape, len(self.layers), stack.kernel // 2
        new = condition.new_zeros
        self.rows = new(depth, width + 2 * reach, batch, reach + 1, channels)  # inputs of the vertical layers
        self.row = self.rows[:, reach:-reach, :, -1]  # [depth, W, B, C]: the current row
        shifted = self.rows.flatten(3).unfold(1, width, 1).movedim(-1, 2)  # [depth, k, W, B, (r + 1) * C]
        self.above_and_here = [[x.flatten(0, 1) for x in layer] for layer in shifted]  # [W * B, (r + 1) * C] each
        self.given = new(depth, width, batch, 2 * channels)  # what the current row gives to the horizontal layers
        self.places = new(depth + 1, batch, reach + 1, channels)  # inputs of the horizontal layers, last their output
        self.here = list(self.places[:, :, -1])  # [B, C] each: the current place
        self.left_and_here = list(self.places.flatten(2))  # [B, (r + 1) * C] each
        self.attention = {
            index: CachedAttention(attention, batch, height * width)
            for index, attention in stack.attention_after.items()
        }

    def next_logits(self, codes: Tensor) -> Tensor:
        """Logits ``[B, codebook_size]`` of the place after ``codes [B, n]``, the grid's so far."""
        place, width = codes.shape[1], self.stack.shape[1]
        row, column = divmod(place, width)
        before = self.stack.code(codes[:, -1]) if place else torch.zeros_like(self.here[0])  # [B, C]
        if column == 0:
            self._vertical(row, codes[:, -width:])
            self.places.zero_()
            self.here[0].copy_(self.stack.place[:, row, 0])
        else:
            self.places[:, :, :-1] = self.places[:, :, 1:].clone()
            torch.add(before, self.stack.place[:, row, column], out=self.here[0])
        return self._horizontal(place, before)

    def _vertical(self, row: int, above: Tensor) -> None:
        """Run the vertical stack for a row; ``above [B, W]`` are the codes of the row above it, empty for the first."""
        self.rows[:, :, :, :-1] = self.rows[:, :, :, 1:].clone()
        place = self.stack.place[:, row].T[:, None]  # [W, 1, C]
        self.row[0] = self.stack.code(above.T) + place if row else place
        condition = self.condition[min(row, len(self.condition) - 1)]  # [W or 1, B, C]
        for index, layer in enumerate(self.layers):
            to_vertical, to_horizontal = F.linear(condition, layer.condition, layer.bias).chunk(2, dim=2)
            x = to_vertical.expand_as(self.given[index]).flatten(0, 1)  # [W * B, 2C]
            for seen, weight in zip(self.above_and_here[index], layer.vertical, strict=True):
                x = torch.addmm(x, seen, weight)
            x = x.view_as(self.given[index])
            torch.add(x @ layer.vertical_to_horizontal, to_horizontal, out=self.given[index])
            if index + 1 < len(self.layers):
                torch.add(self.row[index], gate(x), out=self.row[index + 1])

    def _horizontal(self, place: int, before: Tensor) -> Tensor:
        """Run the horizontal stack at one place: logits ``[B, codebook_size]``; ``before [B, C]`` as for attention."""
        given = self.given[:, place % self.stack.shape[1]].unbind()  # [B, 2C] each
        for index, layer in enumerate(self.layers):
            x = torch.addmm(given[index], self.left_and_here[index], layer.horizontal)  # [B, 2C]
            added = torch.addmm(layer.residual_bias, gate(x), layer.residual)
            here = torch.add(self.here[index], added, out=self.here[index + 1])
            if index in self.attention:
                here += self.attention[index].next(place, here, before)
        x = self.here[-1]
        for weight, bias in self.head:
            x = F.linear(x.relu(), weight, bias)
        return x


class LayerWeights:
    """A gated layer's convolutions as matrices that take features ``[..., inputs]`` from the left."""

    def __init__(self, layer: GatedLayer) -> None:
        # Columns of the kernel apart: each sees the row from another shift.
        self.vertical = list(layer.vertical.weight.permute(3, 2, 1, 0).flatten(1, 2))  # k of [(r + 1) * C, 2C]
        self.horizontal = layer.horizontal.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # [(r + 1) * C, 2C]
        self.vertical_to_horizontal = layer.vertical_to_horizontal.weight[:, :, 0, 0].T  # [2C, 2C]
        self.condition = layer.condition.weight[:, :, 0, 0]  # [4C, C]: for a linear layer
        self.bias = torch.cat([bias_of(layer.vertical), bias_of(layer.horizontal)])  # [4C], added with the condition
        self.residual = layer.residual.weight[:, :, 0, 0].T.contiguous()  # [C, C]
        self.residual_bias = bias_of(layer.residual)  # [C]


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias ``[C]`` of a convolution that has one."""
    assert layer.bias is not None
    return layer.bias


def gate(x: Tensor) -> Tensor:
    """The gated activation of ``[..., 2C]``, ``tanh(first half) * sigmoid(second half)``, ``[..., C]``; x is lost."""
    x[..., : x.shape[-1] // 2].tanh_()
    return F.glu(x, dim=-1)
