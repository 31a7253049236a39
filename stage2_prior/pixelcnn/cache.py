"""A gated PixelCNN's incremental form: only the new position is computed, so an image costs about one forward pass."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.frozen import prepared
from stage2_prior.kv_cache import causal_mask
from stage2_prior.norms import EPSILON, normalised
from stage2_prior.pixelcnn.attention import CachedAttention
from stage2_prior.pixelcnn.layers import gate
from stage2_prior.pixelcnn.stack import GatedStack
from stage2_prior.pixelcnn.weights import StackWeights
from stage2_prior.sampling import cuda_graph


class CachedPixelCNN:
    """A PixelCNN in the middle of drawing codes, grid after grid; a :class:`~stage2_prior.prior.Incremental`.

    Args:
        owner: The PixelCNN.
        layout: How its codes are laid out.
        stacks: Its stacks, one for each grid.
        labels: Class indices, int64 ``[B]``.
    """

    @torch.inference_mode()
    def __init__(self, owner: nn.Module, layout: CodeLayout, stacks: Sequence[GatedStack], labels: Tensor) -> None:
        self.owner = owner
        self.layout = layout
        self.stacks = stacks
        self.labels = labels
        self.codes = labels.new_zeros(len(labels), layout.length)
        self.position = 0
        self.starts = list(accumulate(layout.lengths, initial=0))  # of the grids, and the end
        self.stack = self._begin_grid(0)

    @torch.inference_mode()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        if codes is not None:
            self.codes[:, self.position - 1] = codes
        grid = bisect_right(self.starts, self.position) - 1
        first_of_grid = self.position == self.starts[grid]
        if first_of_grid and grid > 0:
            self.stack = self._begin_grid(grid)
        logits = self.stack.next_logits(None if first_of_grid else codes)
        self.position += 1
        return F.pad(logits, (0, self.layout.vocabulary - logits.shape[1]), value=-torch.inf)

    @torch.inference_mode()
    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]`` at once: the next logits, given the last of them, are those of position t."""
        assert self.position == 0, "only at the start"
        self.position = codes.shape[1]
        self.codes[:, : self.position] = codes
        grid = bisect_right(self.starts, self.position) - 1
        if self.position > self.starts[grid]:
            self.stack = self._begin_grid(grid)
            self.stack.prefill(codes[:, self.starts[grid] :])

    @torch.inference_mode()
    def select(self, rows: Tensor) -> None:
        """Go on in row i as row ``rows[i]`` would have, int64 ``[B]``."""
        self.codes, self.labels = self.codes[rows], self.labels[rows]
        self.stack.select(rows)

    @torch.inference_mode()
    def trial_logits(self, codes: Tensor) -> Tensor:
        """Logits ``[P, B, K]`` of a few positions of each grid of ``codes [B, T]``."""
        self.codes.copy_(codes)
        found = []
        for grid, (start, end) in enumerate(pairwise(self.starts)):
            stack = self._begin_grid(grid)
            logits = stack.trial_logits(codes[:, start:end])
            found.append(F.pad(logits, (0, self.layout.vocabulary - logits.shape[2])))
        return torch.cat(found)

    def _begin_grid(self, grid: int) -> CachedStack:
        *coarser, stack = self.stacks[: grid + 1]
        codes = [
            self.codes[:, start:end].unflatten(1, done.shape)
            for done, (start, end) in zip(coarser, pairwise(self.starts), strict=False)
        ]
        condition = stack.condition(self.labels, codes)
        weights = prepared(self.owner, grid, stack.folded)
        if not cuda_graph.records(condition.device):
            return CachedStack(weights, condition)
        kept = cuda_graph.Recordings.of(stack)
        static = kept.static(weights)
        return kept.borrow(
            self,
            condition.shape,
            lambda: CachedStack(static, condition, cuda_graph.CUDAGraphs(kept.pool)),
            lambda free: free.restart(condition),
        )


class CachedStack:
    """A gated stack in the middle of its grid, with what the next position needs of those before.

    The vertical stack runs once for a whole row, and with it all that the row and the condition give to the horizontal
    stack, which runs at one position. What a step reads and writes stays where it is. A step that is repeated changes
    nothing, since finished rows and positions are kept apart from the windows through which the layers see them. So a
    step can be a CUDA graph.

    Args:
        weights: The stack's; not copied.
        condition: What its ``condition`` returned, ``[B, C, H or 1, W or 1]``.
        graphs: Recordings of the step; None to compute it at every call.
    """

    def __init__(self, weights: StackWeights, condition: Tensor, graphs: cuda_graph.CUDAGraphs | None = None) -> None:
        self.weights = weights
        self.graphs = graphs
        self.bucket = 1 if graphs is None else cuda_graph.BUCKET
        self.condition = condition.permute(2, 3, 0, 1).contiguous()  # [H or 1, W or 1, B, C]
        batch, channels = condition.shape[:2]
        (height, width, _), depth, reach = weights.positions.shape, len(weights.layers), weights.kernel // 2
        self.shape = (height, width)
        new, device = condition.new_zeros, condition.device
        self.epsilon = condition.new_full((1,), EPSILON)  # of the norms
        self.index = torch.zeros(1, dtype=torch.int64, device=device)  # the position
        self.counting = torch.arange(max(height * width, reach), device=device)
        self.no_code = len(weights.codes) - 1
        self.known = torch.full((batch, width + height * width), self.no_code, device=device)  # a row above the grid

        # Inputs of convolutions, normalised.
        self.past_rows = new(reach + 1, depth, width + 2 * reach, batch, channels)  # row i at i % (reach + 1)
        self.rows = new(depth, width + 2 * reach, batch, reach + 1, channels)  # of the vertical layers
        self.row = self.rows[:, reach:-reach, :, -1]  # [depth, W, B, C]: the current row
        shifted = self.rows.flatten(3).unfold(1, width, 1).movedim(-1, 2)  # [depth, k, W, B, (r + 1) * C]
        self.above_and_here = [[x.flatten(0, 1) for x in layer] for layer in shifted]  # [W * B, (r + 1) * C] each
        self.given = new(depth, width, batch, 2 * channels)  # what the current row gives to the horizontal layers

        self.past_columns = new(depth, reach + width, batch, channels)  # `reach` columns left of the row are zero
        self.columns = new(depth, batch, reach + 1, channels)  # of the horizontal layers
        self.here = list(self.columns[:, :, -1])  # [B, C] each: the current position
        self.left_and_here = list(self.columns.flatten(2))  # [B, (r + 1) * C] each
        self.attention = {
            index: CachedAttention(attention, batch, height * width) for index, attention in weights.attention.items()
        }
        self.position = 0

    def restart(self, condition: Tensor) -> None:
        """Begin the grid anew, with another condition of the same shape."""
        self.condition.copy_(condition.permute(2, 3, 0, 1))
        self.known.fill_(self.no_code)
        self.past_rows.zero_()
        self.position = 0

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, codebook_size]`` of the next position; ``codes [B]`` are of the one before, None at first."""
        if codes is not None:
            self.known[:, self.shape[1] + self.position - 1] = codes
        return self._step()

    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]`` of the grid, at its beginning."""
        width = self.shape[1]
        self.known[:, width : width + codes.shape[1]] = codes
        if not self.attention:  # the rows above are seen through the vertical stack alone
            for row in range(codes.shape[1] // width):
                self._vertical(self.counting[row : row + 1])
            self.position = codes.shape[1] // width * width
        while self.position < codes.shape[1]:
            self._step()

    def select(self, rows: Tensor) -> None:
        """Go on in row i of the batch as row ``rows[i]`` would have, int64 ``[B]``."""
        by_axis = [(self.known, 0), (self.condition, 2), (self.past_rows, 3), (self.given, 2), (self.past_columns, 2)]
        by_axis += [(kept, 0) for attention in self.attention.values() for kept in attention.cache]
        for kept, axis in by_axis:
            kept.copy_(kept.index_select(axis, rows))

    def trial_logits(self, codes: Tensor) -> Tensor:
        """Logits ``[P, B, codebook_size]`` of a few positions of ``codes [B, t]``, random keys and values before."""
        generator = torch.Generator(codes.device).manual_seed(0)
        for attention in self.attention.values():
            for kept in attention.cache:
                kept.copy_(torch.randn(1, *kept.shape[1:], generator=generator, device=kept.device))
        (height, width), found = self.shape, []
        self.known[:, width:] = codes
        last = height * width - 1
        for position in sorted({0, 1, width, width + 1, last - last % width, last} & set(range(last + 1))):
            self.position = position
            found.append(self._step())
        return torch.stack(found)

    def _step(self) -> Tensor:
        height, width = self.shape
        self.index.fill_(self.position)
        row_begins = self.position % width == 0
        self.position += 1
        seen = min(-(-self.position // self.bucket) * self.bucket, height * width) if self.attention else 0
        return self.run(row_begins, seen) if self.graphs is None else self.graphs(self.run, row_begins, seen)

    def run(self, row_begins: bool, seen: int) -> Tensor:
        """Compute a position: its logits ``[B, codebook_size]``.

        Args:
            row_begins: Whether the position is the first of its row.
            seen: Positions that attention goes over, at least those so far; the later ones are masked.
        """
        weights, width = self.weights, self.shape[1]
        row, column = self.index // width, self.index % width
        if row_begins:
            self._vertical(row)
        before = self.known.index_select(1, self.index + (width - 1))[:, 0]  # [B]: the code before
        position = weights.positions.flatten(0, 1).index_select(0, self.index)  # [1, C]
        reach = self.columns.shape[2] - 1
        past = self.past_columns.index_select(1, column + self.counting[:reach])  # [depth, r, B, C]
        self.columns[:, :, :-1] = past.transpose(1, 2)
        stream = position.expand(len(before), -1) if row_begins else weights.codes[before] + position
        logits = self._horizontal(stream, column, before, seen)
        self.past_columns.index_copy_(1, column + reach, self.columns[:, :, -1:].transpose(1, 2))
        return logits

    def _vertical(self, row: Tensor) -> None:
        """Run the vertical stack for a row, ``[1]``."""
        weights, width, slots = self.weights, self.shape[1], len(self.past_rows)
        past = self.past_rows.index_select(0, (row + 1 + self.counting[: slots - 1]) % slots)
        self.rows[:, :, :, :-1] = past.movedim(0, 3)
        above = self.known.index_select(1, row * width + self.counting[:width])  # [B, W]
        stream = weights.codes[above.T] + weights.positions.index_select(0, row)[0, :, None]  # [W, B, C]
        condition = self.condition if len(self.condition) == 1 else self.condition.index_select(0, row)
        for index, layer in enumerate(weights.layers):
            normalised(stream, self.epsilon, out=self.row[index])
            to_vertical, to_horizontal = F.linear(condition[0], layer.condition, layer.bias).chunk(2, dim=2)
            x = to_vertical.expand_as(self.given[index]).flatten(0, 1)  # [W * B, 2C]
            for shifted, weight in zip(self.above_and_here[index], layer.vertical.unbind(), strict=True):
                x = torch.addmm(x, shifted, weight)
            x = x.view_as(self.given[index])
            torch.add(x @ layer.vertical_to_horizontal, to_horizontal, out=self.given[index])
            if index + 1 < len(weights.layers):
                stream = stream + gate(x, dim=-1)
        self.past_rows.index_copy_(0, row % slots, self.rows[None, :, :, :, -1])

    def _horizontal(self, stream: Tensor, column: Tensor, before: Tensor, seen: int) -> Tensor:
        """Run the horizontal stack on its input ``[B, C]``: logits ``[B, codebook_size]``.

        ``before`` and ``seen`` are for attention.
        """
        mask = causal_mask(self.index, seen, stream) if self.bucket > 1 and self.attention else None
        given = self.given.index_select(1, column)[:, 0].unbind()  # [B, 2C] each
        for index, layer in enumerate(self.weights.layers):
            normalised(stream, self.epsilon, out=self.here[index])
            x = torch.addmm(given[index], self.left_and_here[index], layer.horizontal)  # [B, 2C]
            stream = stream + torch.addmm(layer.residual_bias, gate(x, dim=-1), layer.residual)
            if index in self.attention:
                stream = self.attention[index].next(self.index, stream, before, self.epsilon, seen, mask)
        x = stream
        for weight, bias in self.weights.head:
            x = F.linear(x.relu(), weight, bias)
        return x
