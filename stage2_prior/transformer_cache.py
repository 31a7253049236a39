"""A transformer's incremental form: the keys and values of the slots behind are kept, so a new code costs one slot."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stage2_prior.cuda_graph import BUCKET, CUDAGraphs, on_loan
from stage2_prior.precision import EPSILON
from stage2_prior.transformer_weights import BlockWeights, Weights

if TYPE_CHECKING:
    from stage2_prior.transformer import Transformer

GROWTH = 32
"""On a CPU a step attends over a multiple of so many slots, and the cache has no more."""


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
        index = prior.class_index(labels, len(labels), labels.device)
        torch.add(index, self.first_row[-1], out=self.step.tokens)
        self.step.classes.copy_(index)

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

    ``tokens``, ``classes`` and ``slot`` are written before a call. Calls with the same length and grid do the same to
    the same memory, which is what a CUDA graph records; and a call that is repeated changes nothing. Only on a CPU the
    cache moves, as it grows: a processor reads ahead where memory is read without gaps, which makes attention twice as
    fast.

    Args:
        prior: Whose shapes and weights are copied.
        batch: B.
    """

    def __init__(self, prior: Transformer, batch: int) -> None:
        self.weights = Weights.of(prior, batch)
        new, width = prior.code.weight.new_empty, prior.code.embedding_dim
        length, device = prior.layout.length, prior.code.weight.device
        on_gpu = device.type == "cuda"
        self.bucket = BUCKET if on_gpu else GROWTH
        self.tokens = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of the token table
        self.classes = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of the classes' embeddings
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.hidden = new(length, length).fill_(-torch.inf).triu_(1)  # [T, T]: added to the scores of slots to come
        self.epsilon = new(1).fill_(EPSILON)  # of the norms
        shape = (2, batch, prior.heads, length if on_gpu else 0, width // prior.heads)
        # Keys and values. What is masked counts as 0 times its value, and 0 times NaN is NaN.
        self.caches = [new(shape).zero_() for _ in prior.stack]
        self.call = CUDAGraphs(self.run) if on_gpu else self.run

    def __call__(self, length: int, grid: int) -> Tensor:
        """Logits ``[B, K of the grid]`` of the slot's code; ``length`` slots are attended to, at least those so far."""
        missing = length - self.caches[0].shape[3]
        if missing > 0:
            more = self.caches[0].new_zeros(*self.caches[0].shape[:3], missing, self.caches[0].shape[4])
            self.caches = [torch.cat([cache, more], dim=3) for cache in self.caches]
        return self.call(length, grid)

    def run(self, length: int, grid: int) -> Tensor:
        """The step itself; see :meth:`__call__`."""
        weights, slot = self.weights, self.slot
        x = weights.tokens[self.tokens] + weights.conditions[self.classes] + weights.places[slot]  # [B, width]
        turns = weights.turns[slot][0]  # [layers, 2, 2, 1, D]
        hidden = self.hidden[slot, :length]  # [1, length]
        for block, turn, cache in zip(weights.blocks, turns.unbind(), self.caches, strict=True):
            x = self._attend(block, turn, cache, hidden, x)
            x = self._feed_forward(block, x)
        return weights.heads[grid].times(normalised(x, self.epsilon))

    def _attend(self, block: BlockWeights, turn: Tensor, cache: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        batch, heads, _, dim = cache.shape[1:]
        qkv = block.qkv.times(normalised(x, self.epsilon)).view(batch, 3, heads, dim)
        qk = normalised(qkv[:, :2], self.epsilon)
        # The halves of a head are the parts of its complex numbers, see stage2_prior.transformer.rotate.
        torch.addcmul(qk * turn[0], qk.roll(dim // 2, -1), turn[1], out=qkv[:, :2])
        cache.index_copy_(3, self.slot, qkv[:, 1:, :, None].transpose(0, 1))
        keys, values = cache[:, :, :, : hidden.shape[1]].unbind()
        mixed = attend(qkv[:, 0], keys, values, hidden)
        return block.attention_out.added(x, mixed.view_as(x))

    def _feed_forward(self, block: BlockWeights, x: Tensor) -> Tensor:
        gate, value = block.gate_and_value.times(normalised(x, self.epsilon)).chunk(2, dim=1)
        return block.feed_forward_out.added(x, F.silu(gate).mul_(value))


def attend(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Values mixed by the softmax of ``query · keys + hidden``.

    Args:
        query: ``[B, heads, D]``.
        keys, values: ``[B, heads, T, D]``.
        hidden: ``[1, T]``.

    Returns:
        ``[B, heads, D]``.
    """
    if query.is_cuda:
        return F.scaled_dot_product_attention(query[:, :, None], keys, values, hidden, scale=1.0)[:, :, 0]
    # Of a single query, these products are faster than PyTorch's fused attention.
    flat = query.reshape(-1, 1, query.shape[2])  # [B * heads, 1, D]
    scores = torch.baddbmm(hidden[None], flat, keys.flatten(0, 1).mT)  # [B * heads, 1, T]
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view_as(query)


def normalised(x: Tensor, epsilon: Tensor) -> Tensor:
    """``x [..., D]`` over its root mean square, as an RMSNorm without a weight: fewer operations than PyTorch's."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.addcmul(epsilon, norm, norm, value=1 / x.shape[-1]).rsqrt_()


def _step_for(user: object, prior: Transformer, batch: int) -> Step:
    """A step that is nobody else's as long as ``user`` lives; on a GPU one with its recordings, if there is."""
    weight = prior.code.weight
    if weight.device.type != "cuda":
        return Step(prior, batch)
    key = (batch, weight.device, weight.dtype)
    return on_loan(user, prior, key, lambda: Step(prior, batch), lambda step: step.weights.copy_from(prior, batch))
