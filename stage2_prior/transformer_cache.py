"""A transformer's incremental form: the keys and values of the slots behind are kept, so a new code costs one slot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, finalize

import torch
import torch.nn.functional as F
from torch import Tensor

from stage2_prior.cuda_graph import CUDAGraphs

if TYPE_CHECKING:
    from stage2_prior.transformer import Block, Transformer

BUCKET = 64
"""On a GPU a step attends over a multiple of so many slots, those to come masked: one CUDA graph for each multiple."""


class CachedTransformer:
    """A transformer in the middle of drawing codes.

    Args:
        prior: The transformer, in eval mode; its weights are taken as they are now.
        labels: int64 ``[B]``, -1 for "any class".
    """

    def __init__(self, prior: Transformer, labels: Tensor) -> None:
        layout = prior.layout
        self.sizes = layout.codebook_sizes
        self.vocabulary = layout.vocabulary
        self.grid_at = [grid for grid, length in enumerate(layout.lengths) for _ in range(length)]
        self.first_row = list(accumulate(self.sizes, initial=0))  # of each grid's codes, then of the labels
        self.length = layout.length
        self.slot = 0
        self.step = _step_for(self, prior, len(labels))
        torch.add(prior.class_index(labels, len(labels), labels.device), self.first_row[-1], out=self.step.tokens)

    @torch.no_grad()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        step, slot = self.step, self.slot
        if codes is not None:
            torch.add(codes, self.first_row[self.grid_at[slot - 1]], out=step.tokens)
        step.slot.fill_(slot)
        grid = self.grid_at[slot]
        logits = step(min(-(-(slot + 1) // step.bucket) * step.bucket, self.length), grid)
        self.slot += 1
        return F.pad(logits, (0, self.vocabulary - self.sizes[grid]), value=-torch.inf)


class Step:
    """One slot of a transformer, with tensors that stay where they are from step to step.

    ``tokens`` and ``slot`` are written before a call. Calls with the same length and grid do the same to the same
    memory, which is what a CUDA graph records; and a call that is repeated changes nothing.

    Args:
        prior: Whose shapes and weights are copied.
        batch: B.
    """

    def __init__(self, prior: Transformer, batch: int) -> None:
        self.weights = Weights.of(prior)
        new, width = prior.code.weight.new_empty, prior.code.embedding_dim
        length, device = prior.layout.length, prior.code.weight.device
        self.tokens = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of the token table
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.cache = new(len(prior.stack), 2, batch, prior.heads, length, width // prior.heads)  # keys and values
        self.cache.zero_()  # what is masked counts as 0 times its value, and 0 times NaN is NaN
        self.hidden = new(length, length).fill_(-torch.inf).triu_(1)  # [T, T]: added to the scores of slots to come
        on_gpu = device.type == "cuda"
        self.bucket = BUCKET if on_gpu else 1
        self.call = CUDAGraphs(self.run) if on_gpu else self.run

    def __call__(self, length: int, grid: int) -> Tensor:
        """Logits ``[B, K of the grid]`` of the slot's code; ``length`` slots are attended to, at least those so far."""
        return self.call(length, grid)

    def run(self, length: int, grid: int) -> Tensor:
        """The step itself; see :meth:`__call__`."""
        weights, slot = self.weights, self.slot
        x = weights.tokens[self.tokens] + weights.places[slot]  # [B, width]
        turns = weights.turns[slot][0]  # [layers, 2, 2, 1, D]
        hidden = self.hidden[slot, :length]  # [1, length]
        for block, turn, cache in zip(weights.blocks, turns.unbind(), self.cache.unbind(), strict=True):
            x = self._attend(block, turn, cache, hidden, x)
            x = self._feed_forward(block, x)
        return normalised(x) @ weights.heads[grid]

    def _attend(self, block: BlockWeights, turn: Tensor, cache: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        batch, heads, _, dim = cache.shape[1:]
        qkv = normalised(x) @ block.qkv
        qk, value = qkv.view(batch, 3, heads, dim).split((2, 1), dim=1)
        qk = normalised(qk)
        # The halves of a head are the parts of its complex numbers, see stage2_prior.transformer.rotate.
        query, key = torch.addcmul(qk * turn[0], qk.roll(dim // 2, -1), turn[1]).unbind(1)  # [B, heads, D] each
        keys, values = cache.unbind()
        keys.index_copy_(2, self.slot, key[:, :, None])
        values.index_copy_(2, self.slot, value.transpose(1, 2))
        length = hidden.shape[1]
        mixed = F.scaled_dot_product_attention(query[:, :, None], keys[:, :, :length], values[:, :, :length], hidden)
        return torch.addmm(x, mixed.view_as(x), block.attention_out)

    def _feed_forward(self, block: BlockWeights, x: Tensor) -> Tensor:
        gate, value = (normalised(x) @ block.gate_and_value).chunk(2, dim=1)
        return torch.addmm(x, F.silu(gate).mul_(value), block.feed_forward_out)


class BlockWeights(NamedTuple):
    """A block's matrices ``[inputs, outputs]``; those after a norm are multiplied with its weight."""

    qkv: Tensor
    attention_out: Tensor
    gate_and_value: Tensor
    feed_forward_out: Tensor

    @classmethod
    def of(cls, block: Block) -> BlockWeights:
        """Copies."""
        attention, feed_forward = block.attention, block.feed_forward
        return cls(
            transposed(attention.qkv.weight * block.attention_norm.weight),
            transposed(attention.out.weight),
            transposed(feed_forward.gate_and_value.weight * block.feed_forward_norm.weight),
            transposed(feed_forward.out.weight),
        )


class Weights(NamedTuple):
    """A transformer's weights as :class:`Step` reads them."""

    tokens: Tensor  # [all codes and labels, width]
    places: Tensor  # [T, width]
    turns: Tensor  # [T, layers, 2, 2, 1, D]: factors of a query's and a key's own channel and of the pair's other one
    blocks: list[BlockWeights]
    heads: list[Tensor]  # [width, K of the grid] of each grid

    @classmethod
    @torch.no_grad()
    def of(cls, prior: Transformer) -> Weights:
        """Copies of a transformer's."""
        return cls(
            torch.cat([prior.code.weight, prior.label.weight]),
            prior.places().clone(),
            torch.stack([turns(prior, block) for block in prior.stack], dim=1),
            [BlockWeights.of(block) for block in prior.stack],
            [transposed(weight * prior.norm.weight) for weight in prior.head_weights()],
        )

    def copy_from(self, prior: Transformer) -> None:
        """Take a transformer's weights as they are now, without moving to other memory."""
        for mine, new in zip(self.tensors(), Weights.of(prior).tensors(), strict=True):
            mine.copy_(new)

    def tensors(self) -> Iterator[Tensor]:
        """All of them, in order."""
        yield from (self.tokens, self.places, self.turns, *self.heads)
        for block in self.blocks:
            yield from block


def transposed(weight: Tensor) -> Tensor:
    """A linear layer's weight as a matrix of its own, ``[inputs, outputs]``: faster for few rows on a CPU."""
    return weight.T.contiguous()


def normalised(x: Tensor) -> Tensor:
    """``x [..., D]`` over its root mean square, as an RMSNorm without a weight: fewer operations than PyTorch's."""
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    return x * square.div_(x.shape[-1]).add_(torch.finfo(x.dtype).eps).rsqrt_()


def turns(prior: Transformer, block: Block) -> Tensor:
    """Rotation and the weights of both norms as factors of normalised queries and keys: ``[T, 2, 2, 1, D]``.

    The first half of a head becomes ``first * cos - second * sin``, the second ``second * cos + first * sin``; so
    the factors are (cos, cos) of the channel itself and (-sin, sin) of the other one of its pair.
    """
    both = []
    norms = (block.attention.query_norm.weight, block.attention.key_norm.weight)
    for (cos, sin), weight in zip((prior.query_turns, prior.key_turns), norms, strict=True):
        own = torch.cat([cos, cos], dim=1) * weight  # [T, D]
        other = torch.cat([-sin, sin], dim=1) * weight.roll(len(weight) // 2)
        both.append(torch.stack([own, other], dim=1))  # [T, 2, D]
    return torch.stack(both, dim=2)[:, :, :, None]


_free: WeakKeyDictionary[Transformer, dict[tuple[object, ...], list[Step]]] = WeakKeyDictionary()


def _step_for(user: object, prior: Transformer, batch: int) -> Step:
    """A step that is nobody else's as long as ``user`` lives.

    On a GPU it comes back for the next user, since to record its graphs takes as long as many steps.
    """
    weight = prior.code.weight
    if weight.device.type != "cuda":
        return Step(prior, batch)
    free = _free.setdefault(prior, {}).setdefault((batch, weight.device, weight.dtype), [])
    if free:
        step = free.pop()
        step.weights.copy_from(prior)
    else:
        step = Step(prior, batch)
    finalize(user, free.append, step)
    return step
