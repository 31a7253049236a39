"""A transformer's incremental form: keys and values of the slots so far are kept, so a new code costs one slot."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.kv_cache import KVCache, causal_mask
from stage2_prior.norms import EPSILON, normalised
from stage2_prior.sampling import cuda_graph
from stage2_prior.transformer.weights import BlockWeights, Weights


class CachedTransformer:
    """A transformer in the middle of drawing codes; it implements :class:`~stage2_prior.prior.Incremental`.

    Args:
        owner: The transformer; on a GPU, what is recorded is kept for it.
        layout: How its codes are laid out.
        weights: Its weights.
        labels: Class indices, int64 ``[B]``.
    """

    @torch.inference_mode()
    def __init__(self, owner: nn.Module, layout: CodeLayout, weights: Weights, labels: Tensor) -> None:
        self.layout = layout
        self.grid_at = [grid for grid, length in enumerate(layout.lengths) for _ in range(length)]
        self.first_row = list(accumulate(layout.codebook_sizes, initial=0))  # of each grid's codes, then of no code
        self.slot = 0
        self.step = self._step(owner, weights, len(labels))
        self.step.codes.fill_(self.first_row[-1])
        self.step.labels.copy_(labels)

    @torch.inference_mode()
    def trial_logits(self, codes: Tensor) -> Tensor:
        """Logits ``[P, B, K]`` of a few positions of ``codes [B, T]``, with random keys and values of earlier ones."""
        generator = torch.Generator(codes.device).manual_seed(0)
        for cache in self.step.caches:
            for kept in cache:
                kept.copy_(torch.randn(1, *kept.shape[1:], generator=generator, device=kept.device))
        found = []
        for slot in sorted({0, 1, self.layout.length // 2, self.layout.length - 1} & set(range(self.layout.length))):
            self.slot = slot
            found.append(self.next_logits(codes[:, slot - 1] if slot else None))
        return torch.stack(found)

    def _step(self, owner: nn.Module, weights: Weights, batch: int) -> Step:
        device = weights.codes.device
        if not cuda_graph.records(device):
            return Step(weights, batch)
        kept = cuda_graph.Recordings.of(owner)
        static = kept.static(weights)
        return kept.borrow(
            self, batch, lambda: Step(static, batch, cuda_graph.CUDAGraphs(kept.pool)), lambda step: None
        )

    @torch.inference_mode()
    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        step, slot = self.step, self.slot
        if codes is not None:
            torch.add(codes, self.first_row[self.grid_at[slot - 1]], out=step.codes)
        step.slot.fill_(slot)
        grid = self.grid_at[slot]
        logits = step(slot, grid)
        self.slot += 1
        return F.pad(logits, (0, self.layout.vocabulary - logits.shape[1]), value=-torch.inf)

    @torch.inference_mode()
    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]`` at once: the next logits, given the last of them, are those of position t."""
        assert self.slot == 0, "only at the start"
        length = codes.shape[1]
        rows = codes[:, :-1] + self.step.weights.code_rows[: length - 1]
        self.step.prefill(F.pad(rows, (1, 0), value=self.first_row[-1]))
        self.slot = length

    @torch.inference_mode()
    def select(self, rows: Tensor) -> None:
        """Go on in row i as row ``rows[i]`` would have, int64 ``[B]``."""
        for kept in (self.step.labels, *(tensor for cache in self.step.caches for tensor in cache)):
            kept.copy_(kept[rows])


class Step:
    """One slot of a transformer, with tensors that stay where they are from slot to slot.

    ``codes``, ``labels`` and ``slot`` are written before a call. Calls with the same arguments of :meth:`run` do the
    same to the same memory, which is what a CUDA graph records; a call that is repeated changes nothing.

    Args:
        weights: The transformer's; not copied.
        batch: B.
        graphs: Recordings of the step; None to compute it at every call.
    """

    def __init__(self, weights: Weights, batch: int, graphs: cuda_graph.CUDAGraphs | None = None) -> None:
        self.weights = weights
        self.graphs = graphs
        self.bucket = 1 if graphs is None else cuda_graph.BUCKET
        length, _, layers, _, dim = weights.rope.shape
        device = weights.codes.device
        self.codes = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of their embeddings
        self.labels = torch.zeros(batch, dtype=torch.int64, device=device)  # [B]: rows of theirs
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.epsilon = weights.codes.new_full((1,), EPSILON)  # of the norms
        shape = (batch, weights.kv_heads, length, dim)
        self.caches = [KVCache.empty(shape, weights.codes) for _ in range(layers)]

    def __call__(self, slot: int, grid: int) -> Tensor:
        """Logits ``[B, K of the grid]`` of a slot's code; ``slot`` is what the tensor of that name holds."""
        seen = min(-(-(slot + 1) // self.bucket) * self.bucket, len(self.weights.positions))
        return self.run(seen, grid) if self.graphs is None else self.graphs(self.run, seen, grid)

    def run(self, seen: int, grid: int) -> Tensor:
        """Compute the slot: logits ``[B, K of the grid]`` of its code.

        Args:
            seen: Slots that attention goes over, at least those so far; the later ones are masked.
            grid: The code's.
        """
        weights, slot = self.weights, self.slot
        x = weights.codes[self.codes] + weights.labels[self.labels] + weights.positions[slot]  # [B, width]
        mask = causal_mask(slot, seen, x) if self.bucket > 1 else None
        own, other = (factors.unbind() for factors in weights.rope[slot][0].unbind())  # [heads + kv_heads, D] each
        for block, *rope, cache in zip(weights.blocks, own, other, self.caches, strict=True):
            query, key, value = self._project(block, rope[0], rope[1], x)
            cache.put(slot, key[:, :, None], value[:, :, None])
            mixed = cache.attend(query, seen, mask)
            x = block.attention_out.add_to(x, mixed.flatten(1))
            x = self._feed_forward(block, x)
        return weights.outputs[grid](normalised(x, self.epsilon))

    def prefill(self, codes: Tensor) -> None:
        """Fill the caches of the first slots at once.

        Args:
            codes: Rows of the embeddings of what the slots hold, int64 ``[B, t]``.
        """
        # On a CPU each image by itself: its bits do not depend on the others then.
        size = 1 if codes.device.type == "cpu" else len(codes)
        for start in range(0, len(codes), size):
            self._prefill(codes[start : start + size], slice(start, start + size))

    def _prefill(self, codes: Tensor, images: slice) -> None:
        weights, (batch, length) = self.weights, codes.shape
        x = weights.codes[codes] + weights.labels[self.labels[images], None] + weights.positions[:length]
        x = x.flatten(0, 1)  # [B * t, width]
        for index, (block, cache) in enumerate(zip(weights.blocks, self.caches, strict=True)):
            own, other = (
                weights.rope[:length, :, index].repeat(batch, 1, 1, 1).unbind(1)
            )  # [B * t, heads + kv_heads, D]
            query, key, value = self._project(block, own, other, x)
            query, key, value = (rearrange(each, "(b t) ... d -> b (...) t d", b=batch) for each in (query, key, value))
            KVCache(*(tensor[images] for tensor in cache)).put_first(key, value)
            if index + 1 == len(weights.blocks):
                break  # of the last block only keys and values are read again
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0, enable_gqa=True)
            x = block.attention_out.add_to(x, rearrange(mixed, "b h t d -> (b t) (h d)"))
            x = self._feed_forward(block, x)

    def _project(self, block: BlockWeights, own: Tensor, other: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[N, kv_heads, heads / kv_heads, D]``, keys and values ``[N, kv_heads, D]`` of ``x [N, width]``."""
        heads, kv_heads, dim = self.weights.heads, self.weights.kv_heads, own.shape[-1]
        qkv = block.qkv(normalised(x, self.epsilon)).view(len(x), -1, dim)  # [N, heads + 2 * kv_heads, D]
        qk = normalised(qkv[:, :-kv_heads], self.epsilon)
        # The halves of a head are the parts of its complex numbers, see stage2_prior.transformer.rope.rotate.
        qk = torch.addcmul(qk * own, qk.roll(dim // 2, -1), other)
        return qk[:, :heads].unflatten(1, (kv_heads, -1)), qk[:, heads:], qkv[:, -kv_heads:]

    def _feed_forward(self, block: BlockWeights, x: Tensor) -> Tensor:
        gate, value = block.gate_and_value(normalised(x, self.epsilon)).chunk(2, dim=1)
        return block.feed_forward_out.add_to(x, F.silu(gate).mul_(value))
