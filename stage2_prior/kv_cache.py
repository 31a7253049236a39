"""Keys and values of the slots behind, so that a new one costs one query a head."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class KeyValues(NamedTuple):
    """What attention reads again for every slot, ``[B, kv_heads, T, D]`` each; it stays where it is."""

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], like: Tensor) -> KeyValues:
        """Zeros: a slot that is masked counts as 0 times its value, and 0 times NaN is NaN."""
        batch, kv_heads, length, dim = shape
        # A CPU multiplies the queries of all heads with the same keys faster if these lie channel by channel.
        by_channel = kv_heads == 1 and not like.is_cuda
        keys = like.new_zeros(batch, kv_heads, dim, length).mT if by_channel else like.new_zeros(shape)
        return cls(keys, like.new_zeros(shape))

    def put(self, slot: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values ``[B, kv_heads, 1, D]`` of a slot, ``[1]``."""
        self.keys.index_copy_(2, slot, keys)
        self.values.index_copy_(2, slot, values)

    def attend(self, queries: Tensor, length: int, hidden: Tensor | None) -> Tensor:
        """Values of the first slots, mixed by the softmax of ``queries · keys + hidden``.

        Args:
            queries: ``[B, kv_heads, n, D]``, the scale of the scores multiplied in.
            length: Number of slots.
            hidden: ``[1, length]``; None is all zeros.

        Returns:
            Like the queries.
        """
        keys, values = self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length)
        if queries.is_cuda:
            return F.scaled_dot_product_attention(queries, keys, values, hidden, scale=1.0)
        # Of so few queries, these products are faster than PyTorch's fused attention.
        scores = torch.bmm(queries.flatten(0, 1), keys.flatten(0, 1).mT)  # [B * kv_heads, n, length]
        if hidden is not None:
            scores += hidden
        return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view_as(queries)


def hidden_after(slot: Tensor, length: int, like: Tensor) -> Tensor:
    """What hides slots to come, ``[1, length]`` of the type of ``like``: 0 up to a slot ``[1]``, -inf after it."""
    to_come = torch.arange(length, device=slot.device) > slot
    return like.new_zeros(1, length).masked_fill_(to_come, -torch.inf)
