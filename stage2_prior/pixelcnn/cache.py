"""A gated PixelCNN's incremental form: only the new place is computed, so an image costs about one forward pass."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stage2_prior.kv_cache import hidden_after
from stage2_prior.norms import EPSILON, normalised
from stage2_prior.pixelcnn.attention import CachedAttention
from stage2_prior.pixelcnn.weights import StackWeights
from stage2_prior.sampling.cuda_graph import BUCKET, CUDAGraphs, on_loan

if TYPE_CHECKING:
    from stage2_prior.pixelcnn.model import GatedStack, PixelCNN


class CachedPixelCNN:
    """A PixelCNN in the middle of drawing codes, one grid after another."""

    @torch.inference_mode()
    def __init__(self, prior: PixelCNN, labels: Tensor) -> None:
        self.prior = prior
        self.labels = prior.class_index(labels, len(labels), labels.device)
        self.codes = labels.new_zeros(len(labels), prior.layout.length)
        self.position = 0
        self.starts = list(accumulate(prior.layout.lengths, initial=0))  # of the grids, and the end
        self.stack = self._begin_grid(0)

    @torch.inference_mode()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        if codes is not None:
            self.codes[:, self.position - 1] = codes
        level = bisect_right(self.starts, self.position) - 1
        first_of_grid = self.position == self.starts[level]
        if first_of_grid and level > 0:
            self.stack = self._begin_grid(level)
        logits = self.stack.next_logits(None if first_of_grid else codes)
        self.position += 1
        return F.pad(logits, (0, self.prior.layout.vocabulary - logits.shape[1]), value=-torch.inf)

    @torch.inference_mode()
    def _begin_grid(self, level: int) -> CachedStack:
        *coarser, stack = self.prior.grid_stacks[: level + 1]
        codes = [
            self.codes[:, start:end].unflatten(1, done.shape)
            for done, (start, end) in zip(coarser, pairwise(self.starts), strict=False)
        ]
        condition = stack.condition(self.labels, codes)
        if condition.device.type != "cuda":
            return CachedStack(stack, condition)
        key = (condition.shape, condition.device, condition.dtype)
        return on_loan(
            self, stack, key, lambda: CachedStack(stack, condition), lambda kept: kept.restart(stack, condition)
        )


class CachedStack:
    """A grid's gated stacks in the middle of it, with what the next place needs of those before.

    The vertical stack runs once for a whole row, and so does all that it and the condition give to the horizontal
    stack, which runs at one place. What a step reads and writes stays where it is; a step that is repeated changes
    nothing, since rows and places that are done are kept apart from the windows through which the layers see them.
    So a step can be a CUDA graph.

    Args:
        stack: Whose shapes and weights are copied.
        condition: What its ``condition`` returned, ``[B, C, H or 1, W or 1]``.
    """

    def __init__(self, stack: GatedStack, condition: Tensor) -> None:
        self.shape = stack.shape
        self.weights = StackWeights.of(stack)
        self.condition = condition.permute(2, 3, 0, 1).contiguous()  # [H or 1, W or 1, B, C]
        batch, channels = condition.shape[:2]
        (height, width), depth, reach = stack.shape, len(self.weights.layers), stack.kernel // 2
        new, device = condition.new_zeros, condition.device
        on_gpu = device.type == "cuda"
        self.epsilon = condition.new_full((1,), EPSILON)  # of the norms
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.counting = torch.arange(max(height * width, reach), device=device)
        self.no_code = len(self.weights.codes) - 1
        self.known = torch.full((batch, width + height * width), self.no_code, device=device)  # a row above the grid

        # Inputs of convolutions, normalised.
        self.done_rows = new(reach + 1, depth, width + 2 * reach, batch, channels)  # row i at i % (reach + 1)
        self.rows = new(depth, width + 2 * reach, batch, reach + 1, channels)  # of the vertical layers
        self.row = self.rows[:, reach:-reach, :, -1]  # [depth, W, B, C]: the current row
        shifted = self.rows.flatten(3).unfold(1, width, 1).movedim(-1, 2)  # [depth, k, W, B, (r + 1) * C]
        self.above_and_here = [[x.flatten(0, 1) for x in layer] for layer in shifted]  # [W * B, (r + 1) * C] each
        self.given = new(depth, width, batch, 2 * channels)  # what the current row gives to the horizontal layers

        self.done_places = new(depth, reach + width, batch, channels)  # `reach` places left of the row are zero
        self.places = new(depth, batch, reach + 1, channels)  # of the horizontal layers
        self.here = list(self.places[:, :, -1])  # [B, C] each: the current place
        self.left_and_here = list(self.places.flatten(2))  # [B, (r + 1) * C] each
        self.attention = {
            index: CachedAttention(attention, batch, height * width)
            for index, attention in stack.attention_after.items()
        }
        self.position = 0
        self.bucket = BUCKET if on_gpu else 1
        self.call = CUDAGraphs(self.run) if on_gpu else self.run

    def restart(self, stack: GatedStack, condition: Tensor) -> None:
        """Begin the grid anew, with the stack's weights as they are now and another condition of the same shape."""
        self.weights.copy_from(stack)
        self.condition.copy_(condition.permute(2, 3, 0, 1))
        self.known.fill_(self.no_code)
        self.done_rows.zero_()
        self.position = 0

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, codebook_size]`` of the next place; ``codes [B]`` are those of the one before, None at first."""
        (height, width), place = self.shape, self.position
        if codes is not None:
            self.known[:, width + place - 1] = codes
        self.place.fill_(place)
        self.position += 1
        seen = min(-(-self.position // self.bucket) * self.bucket, height * width) if self.attention else 0
        return self.call(place % width == 0, seen)

    def run(self, row_begins: bool, seen: int) -> Tensor:
        """The step itself: logits ``[B, codebook_size]`` of :attr:`place`.

        Args:
            row_begins: Whether the place is the first of its row.
            seen: Places that attention goes over, at least those so far; those to come are masked.
        """
        weights, width = self.weights, self.shape[1]
        row, column = self.place // width, self.place % width
        if row_begins:
            self._vertical(row)
        before = weights.codes[self.known.index_select(1, self.place + (width - 1))[:, 0]]  # [B, C]
        place = weights.places.flatten(0, 1).index_select(0, self.place)  # [1, C]
        reach = self.places.shape[2] - 1
        done = self.done_places.index_select(1, column + self.counting[:reach])  # [depth, r, B, C]
        self.places[:, :, :-1] = done.transpose(1, 2)
        stream = place.expand_as(before) if row_begins else before + place
        logits = self._horizontal(stream, column, before, seen)
        self.done_places.index_copy_(1, column + reach, self.places[:, :, -1:].transpose(1, 2))
        return logits

    def _vertical(self, row: Tensor) -> None:
        """Run the vertical stack for a row, ``[1]``."""
        weights, width, slots = self.weights, self.shape[1], len(self.done_rows)
        done = self.done_rows.index_select(0, (row + 1 + self.counting[: slots - 1]) % slots)
        self.rows[:, :, :, :-1] = done.movedim(0, 3)
        above = self.known.index_select(1, row * width + self.counting[:width])  # [B, W]
        stream = weights.codes[above.T] + weights.places.index_select(0, row)[0, :, None]  # [W, B, C]
        condition = self.condition if len(self.condition) == 1 else self.condition.index_select(0, row)
        for index, layer in enumerate(weights.layers):
            normalised(stream, self.epsilon, out=self.row[index])
            to_vertical, to_horizontal = F.linear(condition[0], layer.condition, layer.bias).chunk(2, dim=2)
            x = to_vertical.expand_as(self.given[index]).flatten(0, 1)  # [W * B, 2C]
            for seen, weight in zip(self.above_and_here[index], layer.vertical.unbind(), strict=True):
                x = torch.addmm(x, seen, weight)
            x = x.view_as(self.given[index])
            torch.add(x @ layer.vertical_to_horizontal, to_horizontal, out=self.given[index])
            if index + 1 < len(weights.layers):
                stream = stream + gate(x)
        self.done_rows.index_copy_(0, row % slots, self.rows[None, :, :, :, -1])

    def _horizontal(self, stream: Tensor, column: Tensor, before: Tensor, seen: int) -> Tensor:
        """Run the horizontal stack on its input ``[B, C]``: logits ``[B, codebook_size]``.

        ``before`` and ``seen`` are for attention.
        """
        hidden = hidden_after(self.place, seen, stream) if self.bucket > 1 else None
        given = self.given.index_select(1, column)[:, 0].unbind()  # [B, 2C] each
        for index, layer in enumerate(self.weights.layers):
            normalised(stream, self.epsilon, out=self.here[index])
            x = torch.addmm(given[index], self.left_and_here[index], layer.horizontal)  # [B, 2C]
            stream = stream + torch.addmm(layer.residual_bias, gate(x), layer.residual)
            if index in self.attention:
                stream = stream + self.attention[index].next(self.place, stream, before, seen, hidden)
        x = stream
        for weight, bias in self.weights.head:
            x = F.linear(x.relu(), weight, bias)
        return x


def gate(x: Tensor) -> Tensor:
    """The gated activation of ``[..., 2C]``, ``tanh(first half) * sigmoid(second half)``, ``[..., C]``; x is lost."""
    x[..., : x.shape[-1] // 2].tanh_()
    return F.glu(x, dim=-1)
