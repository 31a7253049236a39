"""A transformer's weights as its incremental form reads them: norms, rotations and scales multiplied in beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from stage2_prior.transformer.packed_linear import Matrix

if TYPE_CHECKING:
    from stage2_prior.transformer.model import Block, Transformer


class BlockWeights(NamedTuple):
    """A block's matrices; those after a norm are multiplied with its weight."""

    qkv: Matrix
    attention_out: Matrix
    gate_and_value: Matrix
    feed_forward_out: Matrix

    @classmethod
    def of(cls, block: Block, rows: int) -> BlockWeights:
        """Copies."""
        attention, feed_forward = block.attention, block.feed_forward
        weights = (
            attention.qkv.weight * block.attention_norm.weight,
            attention.out.weight,
            feed_forward.gate_and_value.weight * block.feed_forward_norm.weight,
            feed_forward.out.weight,
        )
        return cls(*(Matrix(weight, rows) for weight in weights))


class Weights(NamedTuple):
    """A transformer's weights."""

    codes: Tensor  # [all codes + 1, width]: the last row, of no code, is zero
    labels: Tensor  # [classes + 1, width]
    places: Tensor  # [T, width]
    turns: Tensor  # [T, 2, layers, heads + kv_heads, D]: factors of channels themselves and of the other ones of pairs
    blocks: list[BlockWeights]
    heads: list[Matrix]  # [width, K of the grid] of each grid

    @classmethod
    @torch.inference_mode()
    def of(cls, prior: Transformer, rows: int) -> Weights:
        """Copies of a transformer's, for so many rows; within :func:`sharing` the same ones each time."""
        shared = _shared.get(prior)
        if shared is None:
            return cls._copied(prior, rows)
        with shared.lock:
            if rows not in shared.by_rows:
                shared.by_rows[rows] = cls._copied(prior, rows)
            return shared.by_rows[rows]

    @classmethod
    def _copied(cls, prior: Transformer, rows: int) -> Weights:
        return cls(
            F.pad(prior.code.weight, (0, 0, 0, 1)),
            prior.label.weight.clone(),
            prior.places().clone(),
            torch.stack([turns(prior, block) for block in prior.stack], dim=2),
            [BlockWeights.of(block, rows) for block in prior.stack],
            [Matrix(weight * prior.norm.weight, rows) for weight in prior.head_weights()],
        )

    @torch.inference_mode()
    def copy_from(self, prior: Transformer, rows: int) -> None:
        """Take a transformer's weights as they are now, without moving to other memory."""
        for mine, new in zip(self.tensors(), Weights.of(prior, rows).tensors(), strict=True):
            mine.copy_(new)

    def tensors(self) -> Iterator[Tensor]:
        """All of them, in order."""
        yield from (self.codes, self.labels, self.places, self.turns)
        for matrix in (*self.heads, *(matrix for block in self.blocks for matrix in block)):
            yield matrix.tensor


class Shared:
    """What incremental forms of one prior share, by the number of their rows."""

    def __init__(self) -> None:
        self.by_rows: dict[int, Weights] = {}
        self.lock = Lock()


_shared: WeakKeyDictionary[Transformer, Shared] = WeakKeyDictionary()


@contextmanager
def sharing(prior: Transformer) -> Iterator[None]:
    """Prepare a prior's weights once for all incremental forms that begin inside, on any thread."""
    if prior in _shared:
        yield
        return
    _shared[prior] = Shared()
    try:
        yield
    finally:
        del _shared[prior]


def turns(prior: Transformer, block: Block) -> Tensor:
    """Rotation, norms' weights and the scale of the scores as factors: ``[T, 2, heads + kv_heads, D]``.

    The first half of a head becomes ``first * cos - second * sin``, the second ``second * cos + first * sin``; so
    the factors are (cos, cos) of the channel itself and (-sin, sin) of the other one of its pair.
    """
    by_head = []
    attention, dim = block.attention, prior.query_turns.shape[2] * 2
    query, key = attention.query_norm.weight * dim**-0.5, attention.key_norm.weight
    pairs = ((prior.query_turns, query), (prior.key_turns, key))
    for ((cos, sin), weight), heads in zip(pairs, attention.shape[:2], strict=True):
        own = torch.cat([cos, cos], dim=1) * weight  # [T, D]
        other = torch.cat([-sin, sin], dim=1) * weight.roll(len(weight) // 2)
        by_head.append(torch.stack([own, other], dim=1)[:, :, None].expand(-1, -1, heads, -1))
    return torch.cat(by_head, dim=2)
