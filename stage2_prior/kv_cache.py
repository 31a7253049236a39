"""Keys and values of the positions so far, so that a new position costs one query a head."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class KVCache(NamedTuple):
    """What one attention layer reads again at every position, ``[B, kv_heads, T, D]`` each; it stays where it is."""

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], like: Tensor) -> KVCache:
        """Zeros of a shape ``(B, kv_heads, T, D)``, of the type and on the device of ``like``.

        They are zeros because a masked position counts as 0 times its value, and 0 times NaN is NaN.
        """
        batch, kv_heads, length, dim = shape
        # A CPU multiplies the queries of all heads with the same keys faster if these lie channel by channel.
        by_channel = kv_heads == 1 and like.device.type == "cpu"
        keys = like.new_zeros(batch, kv_heads, dim, length).mT if by_channel else like.new_zeros(shape)
        return cls(keys, like.new_zeros(shape))

    def put(self, position: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values ``[B, kv_heads, 1, D]`` of a position, int64 ``[1]``."""
        self.keys.index_copy_(2, position, keys)
        self.values.index_copy_(2, position, values)

    def put_first(self, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values ``[B, kv_heads, t, D]`` of the first t positions."""
        self.keys[:, :, : keys.shape[2]] = keys
        self.values[:, :, : values.shape[2]] = values

    def attend(self, queries: Tensor, length: int, mask: Tensor | None) -> Tensor:
        """Values of the first positions, weighted by the softmax of ``queries · keys + mask``.

        Args:
            queries: ``[B, kv_heads, n, D]``, the scale of the scores multiplied in.
            length: Number of positions.
            mask: ``[1, length]``, see :func:`causal_mask`; None is all zeros.

        Returns:
            ``[B, kv_heads, n, D]``.
        """
        keys, values = self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length)
        if queries.device.type != "cpu":
            return F.scaled_dot_product_attention(queries, keys, values, mask, scale=1.0)
        # For so few queries these products are faster than PyTorch's fused attention.
        scores = torch.bmm(queries.flatten(0, 1), keys.flatten(0, 1).mT)  # [B * kv_heads, n, length]
        if mask is not None:
            scores += mask
        return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view_as(queries)


def causal_mask(position: Tensor, length: int, like: Tensor) -> Tensor:
    """0 up to a position, -inf after it: ``[1, length]`` of the type of ``like``.

    Args:
        position: int64 ``[1]``.
        length: Number of positions.
        like: Gives the type and the device.
    """
    later = torch.arange(length, device=position.device) > position
    return like.new_zeros(1, length).masked_fill_(later, -torch.inf)
