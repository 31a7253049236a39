"""Causal self-attention between the layers of a PixelCNN (PixelSNAIL's idea, arXiv 1712.09763)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.kv_cache import KeyValues
from stage2_prior.norms import EPSILON


class CausalAttention(nn.Module):
    """Attention from every place of a grid to itself and all places before it, added to what it reads.

    What a place knows excludes its own code, and so do its key and value. They hold the code just before it in
    raster order too, which at the start of a row the convolutions have not brought there.

    Args:
        channels: Channels of the features.
        heads: Attention heads; they divide the channels.
        dropout: On what is added.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(channels, eps=EPSILON)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(2 * channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, before: Tensor) -> Tensor:
        """Transform ``features [B, C, H, W]``; ``before [B, H * W, C]`` embeds the code before each place."""
        flat = features.flatten(2).mT  # [B, H * W, C]
        query, key, value = self.project(flat, before)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return features + self.merge(mixed).mT.unflatten(2, features.shape[2:])

    def project(self, features: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, heads, T, C / heads]`` of ``features [B, T, C]``."""
        features = self.norm(features)
        query = self.query(features)
        key, value = self.key_value(torch.cat([features, before], dim=2)).chunk(2, dim=2)
        by_head = [x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value)]
        return by_head[0], by_head[1], by_head[2]

    def merge(self, mixed: Tensor) -> Tensor:
        """What is added, ``[B, T, C]``, of the heads' ``[B, heads, T, C / heads]``."""
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class CachedAttention:
    """Attention with the keys and values of the places behind."""

    def __init__(self, attention: CausalAttention, batch: int, length: int) -> None:
        self.attention = attention
        weight = attention.out.weight
        self.cache = KeyValues.empty((batch, attention.heads, length, len(weight) // attention.heads), weight)

    def next(self, place: Tensor, features: Tensor, before: Tensor, length: int, hidden: Tensor | None) -> Tensor:
        """What is added to ``features [B, C]`` of a place.

        Args:
            place: int64 ``[1]``.
            features: ``[B, C]``.
            before: ``[B, C]``, embeds the code before the place.
            length: Places that it goes over.
            hidden: ``[1, length]``, hides those after this one; None if there are none.
        """
        query, key, value = self.attention.project(features[:, None], before[:, None])
        self.cache.put(place, key, value)
        mixed = self.cache.attend(query * query.shape[3] ** -0.5, length, hidden)
        return self.attention.merge(mixed)[:, 0]
