"""A transformer's incremental form: the keys and values of the slots behind are kept, so a new code costs one slot."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stage2_prior.kv_cache import KeyValues, hidden_after
from stage2_prior.norms import EPSILON, normalised
from stage2_prior.sampling.cuda_graph import BUCKET, CUDAGraphs, on_loan
from stage2_prior.transformer.weights import BlockWeights, Weights

if TYPE_CHECKING:
    from stage2_prior.transformer.model import Transformer


class CachedTransformer:
    """A transformer in the middle of drawing codes.

    Args:
        prior: The transformer, in eval mode; its weights are taken as they are now.
        labels: int64 ``[B]``, -1 for "any class".
    """

    @torch.inference_mode()
    def __init__(self, prior: Transformer, labels: Tensor) -> None:
        layout = prior.layout
        self.sizes = layout.codebook_sizes
        self.vocabulary = layout.vocabulary
        self.grid_at = [grid for grid, length in enumerate(layout.lengths) for _ in range(length)]
        self.first_row = list(accumulate(self.sizes, initial=0))  # of each grid's codes, then of no code
        self.length = layout.length
        self.slot = 0
        self.step = _step_for(self, prior, len(labels))
        self.step.codes.fill_(self.first_row[-1])
        self.step.labels.copy_(prior.class_index(labels, len(labels), labels.device))

    @torch.inference_mode()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        step, slot = self.step, self.slot
        if codes is not None:
            torch.add(codes, self.first_row[self.grid_at[slot - 1]], out=step.codes)
        step.slot.fill_(slot)
        grid = self.grid_at[slot]
        logits = step.call(min(-(-(slot + 1) // step.bucket) * step.bucket, self.length), grid)
        self.slot += 1
        return F.pad(logits, (0, self.vocabulary - self.sizes[grid]), value=-torch.inf)


class Step:
    """One slot of a transformer, with tensors that stay where they are from step to step.

    ``codes``, ``labels`` and ``slot`` are written before a :attr:`call` of :meth:`run`. Calls with the same length and
    grid do the same to the same memory, which is what a CUDA graph records; a call that is repeated changes nothing.

    Args:
        prior: Whose shapes and weights are copied.
        batch: B.
    """

    def __init__(self, prior: Transformer, batch: int) -> None:
        self.weights = Weights.of(prior, batch)
        length, width, device = prior.layout.length, prior.code.embedding_dim, prior.code.weight.device
        on_gpu = device.type == "cuda"
        self.bucket = BUCKET if on_gpu else 1
        self.codes = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of their embeddings
        self.labels = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of theirs
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.epsilon = prior.code.weight.new_full((1,), EPSILON)  # of the norms
        self.heads, kv_heads, _ = prior.stack[0].attention.shape
        shape = (batch, kv_heads, length, width // self.heads)
        self.caches = [KeyValues.empty(shape, prior.code.weight) for _ in prior.stack]
        self.call = CUDAGraphs(self.run) if on_gpu else self.run

    def run(self, length: int, grid: int) -> Tensor:
        """The step itself: logits ``[B, K of the grid]`` of the slot's code.

        Args:
            length: Slots that attention goes over, at least those so far; those to come are masked.
            grid: The code's.
        """
        weights, slot = self.weights, self.slot
        x = weights.codes[self.codes] + weights.labels[self.labels] + weights.places[slot]  # [B, width]
        hidden = hidden_after(slot, length, x) if self.bucket > 1 else None
        own, other = (turns.unbind() for turns in weights.turns[slot][0].unbind())  # [heads + kv_heads, D] each
        for block, turns, cache in zip(weights.blocks, zip(own, other, strict=True), self.caches, strict=True):
            queries = self._project(block, turns, cache, x)
            mixed = cache.attend(queries, length, hidden)
            x = block.attention_out.added(x, mixed.flatten(1))
            x = self._feed_forward(block, x)
        return weights.heads[grid].times(normalised(x, self.epsilon))

    def _project(self, block: BlockWeights, turns: tuple[Tensor, Tensor], cache: KeyValues, x: Tensor) -> Tensor:
        """Queries ``[B, kv_heads, heads / kv_heads, D]`` of ``x [B, width]``; keys and values go to the cache."""
        batch, kv_heads, _, dim = cache.values.shape
        qkv = block.qkv.times(normalised(x, self.epsilon)).view(batch, -1, dim)  # [B, heads + 2 * kv_heads, D]
        qk = normalised(qkv[:, :-kv_heads], self.epsilon)
        # The halves of a head are the parts of its complex numbers, see stage2_prior.transformer.model.rotate.
        qk = torch.addcmul(qk * turns[0], qk.roll(dim // 2, -1), turns[1])
        cache.put(self.slot, qk[:, self.heads :, None], qkv[:, -kv_heads:, None])
        return qk[:, : self.heads].view(batch, kv_heads, -1, dim)

    def _feed_forward(self, block: BlockWeights, x: Tensor) -> Tensor:
        gate, value = block.gate_and_value.times(normalised(x, self.epsilon)).chunk(2, dim=1)
        return block.feed_forward_out.added(x, F.silu(gate).mul_(value))


def _step_for(user: object, prior: Transformer, batch: int) -> Step:
    """A step that is nobody else's as long as ``user`` lives; on a GPU one with its recordings, if there is."""
    weight = prior.code.weight
    if weight.device.type != "cuda":
        return Step(prior, batch)
    key = (batch, weight.device, weight.dtype)
    return on_loan(user, prior, key, lambda: Step(prior, batch), lambda step: step.weights.copy_from(prior, batch))
