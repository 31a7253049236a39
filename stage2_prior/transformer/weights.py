"""A transformer's weights as its incremental form reads them: norms, rotations and scales multiplied in beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from stage2_prior.transformer.layers import Attention, Block
from stage2_prior.transformer.packed_linear import PackedLinear


class BlockWeights(NamedTuple):
    """A block's linear layers; those after a norm are multiplied with its weight."""

    qkv: PackedLinear
    attention_out: PackedLinear
    gate_and_value: PackedLinear
    feed_forward_out: PackedLinear

    @classmethod
    def of(cls, block: Block) -> BlockWeights:
        """Copy those of a block."""
        attention, feed_forward = block.attention, block.feed_forward
        return cls(
            PackedLinear(attention.qkv.weight * block.attention_norm.weight),
            PackedLinear(attention.out.weight),
            PackedLinear(feed_forward.gate_and_value.weight * block.feed_forward_norm.weight),
            PackedLinear(feed_forward.out.weight),
        )


class Weights(NamedTuple):
    """A transformer's weights; :meth:`~stage2_prior.transformer.model.Transformer.folded` makes them."""

    heads: int
    kv_heads: int
    code_rows: Tensor  # [T]: the row of code 0 of each position's grid
    codes: Tensor  # [all codes + 1, width]: the last row, of no code, is zero
    labels: Tensor  # [classes + 1, width]
    positions: Tensor  # [T, width]
    rope: Tensor  # [T, 2, layers, heads + kv_heads, D], see rope_factors
    blocks: list[BlockWeights]
    outputs: list[PackedLinear]  # width to K of the grid, for each grid

    def tensors(self) -> Iterator[Tensor]:
        """All tensors, always in the same order."""
        yield from (self.codes, self.labels, self.positions, self.rope)
        for linear in (*self.outputs, *(linear for block in self.blocks for linear in block)):
            yield linear.tensor


def rope_factors(attention: Attention, query_rope: Tensor, key_rope: Tensor) -> Tensor:
    """Rotation, weights of the norms and scale of the scores as factors of channels: ``[T, 2, heads + kv_heads, D]``.

    The first half of a head becomes ``first * cos - second * sin``, the second ``second * cos + first * sin``; so
    the factors are (cos, cos) of the channel itself and (-sin, sin) of the other one of its pair.

    Args:
        attention: Gives heads and norms.
        query_rope: Rotation of queries, ``[2, T, D / 2]``.
        key_rope: Rotation of keys, ``[2, T, D / 2]``.
    """
    by_head = []
    dim = query_rope.shape[2] * 2
    scaled = attention.query_norm.weight * dim**-0.5
    for (cos, sin), weight, heads in (
        (query_rope, scaled, attention.heads),
        (key_rope, attention.key_norm.weight, attention.kv_heads),
    ):
        own = torch.cat([cos, cos], dim=1) * weight  # [T, D]
        other = torch.cat([-sin, sin], dim=1) * weight.roll(len(weight) // 2)
        by_head.append(torch.stack([own, other], dim=1)[:, :, None].expand(-1, -1, heads, -1))
    return torch.cat(by_head, dim=2)
