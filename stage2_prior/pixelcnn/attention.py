"""Causal self-attention between the layers of a PixelCNN (PixelSNAIL's idea, arXiv 1712.09763)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.kv_cache import KVCache
from stage2_prior.norms import Norm, normalised


class CausalAttention(nn.Module):
    """Attention from every position of a grid to itself and all positions before it, added to its input.

    The features at a position do not know its own code, and neither do its key and value. Key and value also see the
    code just before the position in raster order. At the start of a row that code is the last one of the row above,
    which the convolutions have not brought there.

    Args:
        channels: Channels of the features.
        heads: Attention heads; they divide the channels.
        dropout: On what is added.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(2 * channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, before: Tensor) -> Tensor:
        """Transform ``features [B, C, H, W]``; ``before [B, H * W, C]`` embeds the code before each position."""
        normed = self.norm(features.flatten(2).mT)  # [B, H * W, C]
        key, value = self.key_value(torch.cat([normed, before], dim=2)).chunk(2, dim=2)
        query, key, value = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (self.query(normed), key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        added = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))  # [B, H * W, C]
        return features + added.mT.unflatten(2, features.shape[2:])

    @torch.inference_mode()
    def folded(self, codes: Tensor) -> AttentionWeights:
        """A copy of the weights for the incremental form, with the norm and the scale of the scores multiplied in.

        Args:
            codes: Embeddings of the codes and of no code, ``[codebook size + 1, C]``.
        """
        channels = len(self.out.weight)
        of_features, of_before = self.key_value.weight.split(channels, dim=1)  # [2C, C] each
        query = self.query.weight * (channels // self.heads) ** -0.5
        qkv = torch.cat([query, of_features]) * self.norm.weight
        return AttentionWeights(
            self.heads, qkv.T.contiguous(), codes @ of_before.T, self.out.weight.T.contiguous(), self.out.bias.clone()
        )


class AttentionWeights(NamedTuple):
    """The weights of a :class:`CausalAttention` as its incremental form reads them."""

    heads: int
    qkv: Tensor  # [C, 3C]: queries, keys and values of normalised features
    before: Tensor  # [codebook size + 1, 2C]: what the code before adds to keys and values; the last row is no code's
    out: Tensor  # [C, C]
    out_bias: Tensor  # [C]


class CachedAttention:
    """The incremental form of :class:`CausalAttention`, with the keys and values of the positions so far.

    Args:
        weights: Of the attention.
        batch: B.
        length: Positions of the grid.
    """

    def __init__(self, weights: AttentionWeights, batch: int, length: int) -> None:
        self.weights = weights
        shape = (batch, weights.heads, length, len(weights.out) // weights.heads)
        self.cache = KVCache.empty(shape, weights.out)

    def next(
        self, position: Tensor, features: Tensor, before: Tensor, epsilon: Tensor, seen: int, mask: Tensor | None
    ) -> Tensor:
        """The features of a position with attention added, ``[B, C]``.

        Args:
            position: int64 ``[1]``.
            features: ``[B, C]``.
            before: The code before the position, int64 ``[B]``.
            epsilon: Of the norm, ``[1]``.
            seen: Positions that attention goes over.
            mask: ``[1, seen]``, see :func:`~stage2_prior.kv_cache.causal_mask`; None if no position is later.
        """
        weights = self.weights
        query, key, value = (normalised(features, epsilon) @ weights.qkv).chunk(3, dim=1)
        key_before, value_before = weights.before[before].chunk(2, dim=1)
        by_head = [x.unflatten(1, (weights.heads, 1, -1)) for x in (query, key + key_before, value + value_before)]
        self.cache.put(position, *by_head[1:])
        mixed = self.cache.attend(by_head[0], seen, mask).flatten(1)
        return features + torch.addmm(weights.out_bias, mixed, weights.out)
