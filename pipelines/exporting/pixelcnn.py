"""The step of a gated PixelCNN, which keeps what later positions need of those before."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.exporting.step import PriorStep, attend, when
from stage2_prior.pixelcnn.layers import gate
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.pixelcnn.stack import GatedStack


class PixelCNNStep(PriorStep):
    """A PixelCNN's: the state is the codes so far, int64 ``[B, T]``, and that of each grid's :class:`StackStep`.

    Args:
        prior: In eval mode.
    """

    def __init__(self, prior: PixelCNN) -> None:
        super().__init__()
        self.layout = prior.layout
        self.spans = list(pairwise(accumulate(prior.layout.lengths, initial=0)))  # of positions, one a grid
        self.grids = nn.ModuleList(StackStep(stack, grid > 0) for grid, stack in enumerate(prior.grid_stacks))
        self.register_buffer("slots", torch.arange(prior.layout.length))

    slots: Tensor

    def state(self, batch: int) -> list[Tensor]:
        """No codes, and the grids' states one after another: zeros."""
        known = torch.zeros(batch, self.layout.length, dtype=torch.int64)
        return [known, *(each for step in self.steps for each in step.state(batch))]

    @property
    def steps(self) -> list[StackStep]:
        """Of the grids in order."""
        return [step for step in self.grids if isinstance(step, StackStep)]

    def forward(
        self, codes: Tensor, labels: Tensor, position: Tensor, known: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits of a position, and the state with the code before it."""
        known = torch.where(self.slots == position - 1, codes[:, None], known)
        logits = torch.full((codes.shape[0], self.layout.vocabulary), -torch.inf)
        grids = [
            known[:, start:end].unflatten(1, step.stack.shape)
            for step, (start, end) in zip(self.steps, self.spans, strict=True)
        ]
        new: list[Tensor] = []
        for grid, (step, (start, end)) in enumerate(zip(self.steps, self.spans, strict=True)):
            own = state[len(new) : len(new) + len(step.state(1))]
            here = None if len(self.spans) == 1 else (position >= start) & (position < end)
            inside = (position - start).clamp(0, end - start - 1)
            logits, *kept = step(here, inside, grids[grid], labels, grids[:grid], logits, *own)
            new += kept
        return logits, known, *new


class StackStep(nn.Module):
    """One position of a grid's stack. What the convolutions cost does not depend on the grid's height.

    The state is

    - where grids are coarser, the condition ``[B, C, H, W]``, computed at the first position;
    - normalised inputs of the vertical convolutions in the rows above, ``[B, layers, C, kernel // 2, W]``;
    - what the row gives to the horizontal stack, ``[B, layers, 2C, W]``, computed with them at its first position;
    - normalised inputs of the horizontal convolutions to the left, ``[B, layers, C, kernel // 2]``;
    - with attention, keys and values, ``[B, blocks, heads, H * W, D]`` each.

    Args:
        stack: In eval mode.
        coarser: Whether there are coarser grids.
    """

    def __init__(self, stack: GatedStack, coarser: bool) -> None:
        super().__init__()
        self.stack = stack
        self.coarser = coarser

    def state(self, batch: int) -> list[Tensor]:
        """Zeros."""
        stack, reach = self.stack, self.stack.kernel // 2
        (height, width), layers, channels = stack.shape, len(stack.layers), len(stack.position)
        shapes = [
            (layers, channels, reach, width),
            (layers, 2 * channels, width),
            (layers, channels, reach),
        ]
        if self.coarser:
            shapes.insert(0, (channels, height, width))
        blocks = list(stack.attention_after.values())
        if blocks:
            heads = blocks[0].heads
            shapes += [(len(blocks), heads, height * width, channels // heads)] * 2
        return [torch.zeros(batch, *shape) for shape in shapes]

    def forward(
        self,
        here: Tensor | None,
        position: Tensor,
        codes: Tensor,
        labels: Tensor,
        coarser: list[Tensor],
        logits: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Logits ``[B, K]`` and the new state; as they were where the position is of another grid.

        Args:
            here: Whether it is of this one, bool ``[1]``; None where there is no other.
            position: In the grid, int64 ``[1]``.
            codes: Of the grid, int64 ``[B, H, W]``; those from the position on do not matter.
            labels: Class indices, int64 ``[B]``.
            coarser: Codes of the coarser grids, ``[B, h, w]`` each.
            logits: ``[B, K]``.
            state: See the class.
        """
        width = self.stack.shape[1]
        row, column = position // width, position % width
        begins = [each if here is None else each & here for each in (position == 0, column == 0)]
        new: list[Tensor] = []
        if self.coarser:
            new = list(when(begins[0], lambda _: (self.stack.condition(labels, coarser),), state[0]))
            condition = new[0].index_select(2, row)  # [B, C, 1, W]
        else:
            condition = self.stack.condition(labels, [])  # [B, C, 1, 1]
        rows, given, *others = state[len(new) :]
        rows, given = when(begins[1], lambda rows, _: self.vertical(row, codes, condition, rows), rows, given)
        of_row = given.index_select(3, column)[..., 0]  # [B, layers, 2C]

        def horizontal(before: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            found, *kept = self.horizontal(position, codes, of_row, *others)
            return F.pad(found, (0, before.shape[1] - found.shape[1]), value=-torch.inf), *kept

        # No branch holds another one: exporters do not take that.
        given_here = (logits, *others)
        logits, *kept = horizontal(*given_here) if here is None else when(here, horizontal, *given_here)
        return logits, *new, rows, given, *kept

    def vertical(self, row: Tensor, codes: Tensor, condition: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Run the vertical stack for a row, int64 ``[1]``: two entries of the state."""
        stack, reach = self.stack, self.stack.kernel // 2
        above = stack.code(codes.index_select(1, (row - 1).clamp(min=0))).movedim(3, 1)  # [B, C, 1, W]
        stream = above * (row > 0).float() + stack.position.index_select(1, row)
        new_rows, given = [], []
        for index, layer in enumerate(stack.gated_layers):
            window = torch.cat([rows[:, index], layer.vertical_norm(stream)], 2)  # [B, C, r + 1, W]
            to_vertical, to_horizontal = layer.condition(condition).chunk(2, 1)
            convolution = layer.vertical
            x = F.conv2d(F.pad(window, (reach, reach)), convolution.weight, convolution.bias) + to_vertical
            given.append(layer.vertical_to_horizontal(x) + to_horizontal)  # [B, 2C, 1, W]
            stream = stream + gate(x, dim=1)
            new_rows.append(window[:, :, 1:])
        return torch.stack(new_rows, 1), torch.stack(given, 1)[:, :, :, 0]

    def horizontal(
        self, position: Tensor, codes: Tensor, given: Tensor, columns: Tensor, *cache: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the horizontal stack at a position: logits, and the last entries of the state."""
        stack = self.stack
        inside = (position % stack.shape[1] > 0).float()  # 0 at the start of a row: nothing is to the left
        code = stack.code(codes.flatten(1).index_select(1, (position - 1).clamp(min=0)))[:, 0]  # [B, C]
        stream = code * inside + stack.position.flatten(1).index_select(1, position)[:, 0]
        before = code * (position > 0).float()
        columns, new_columns = columns * inside, []
        new_cache: list[list[Tensor]] = []
        for index, layer in enumerate(stack.gated_layers):
            normed = layer.horizontal_norm(stream[:, :, None, None])[:, :, 0]
            window = torch.cat([columns[:, index], normed], 2)  # [B, C, r + 1]
            x = at_one(layer.horizontal, window) + given[:, index]
            stream = stream + at_one(layer.residual, gate(x, dim=1))
            new_columns.append(window[:, :, 1:])
            if index in stack.attention_after:
                block, nth = stack.attention_after[index], len(new_cache)
                normed = block.norm(stream)
                key, value = block.key_value(torch.cat([normed, before], 1)).chunk(2, 1)
                query, key, value = (
                    each.unflatten(1, (block.heads, 1, -1)) for each in (block.query(normed), key, value)
                )
                mixed, *pair = attend(query, key, value, cache[0][:, nth], cache[1][:, nth], position)
                stream = stream + block.out(mixed.flatten(1))
                new_cache.append(pair)
        x = stream
        for part in stack.head:
            x = at_one(part, x) if isinstance(part, nn.Conv2d) else part(x)
        return x, torch.stack(new_columns, 1), *(torch.stack(each, 1) for each in zip(*new_cache, strict=True))


def at_one(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution at one position, ``[B, channels]`` of all ``x [B, ...]`` that its kernel sees."""
    return F.linear(x.flatten(1), convolution.weight.flatten(1), convolution.bias)
