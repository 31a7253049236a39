"""A causal transformer over codes ``[B, T]``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import accumulate

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.norms import EPSILON
from stage2_prior.prior import Prior
from stage2_prior.transformer.cache import CachedTransformer
from stage2_prior.transformer.weights import sharing

AXES = 3
"""Axes of a grid at most; grids with fewer lie at 0 on the others."""


class Transformer(Prior):
    """A decoder-only transformer: RMSNorm, SwiGLU, query-key normalisation, rotary positions over the grid's axes.

    Slot t of its input holds code t - 1, slot 0 none, and predicts code t. An embedding of the class is added to every
    slot, so that no code has to look for it. Keys are rotated by the place of the code that they hold, queries by the
    place of the code that they predict, so attention sees the true offset between the two, also across the ends of
    rows. Grids of several resolutions share the finest one's coordinates; embeddings of the predicted position and of
    its grid tell absolute places and grids apart.

    Heads share keys and values, all of them by default (arXiv 1911.02150): what sampling reads again for every code,
    most of it keys and values, shrinks by as many times.

    Args:
        layout: How the codes are laid out.
        num_classes: Number of classes; 0 for a prior without labels.
        width: Channels of the residual stream.
        layers: Number of blocks.
        heads: Attention heads; ``width / heads`` is even.
        kv_heads: Heads of keys and values, each shared by ``heads / kv_heads`` heads (arXiv 2305.13245); as many as
            ``heads`` for attention in which nothing is shared.
        dropout: On embeddings, attention and the output of every branch.
        tied: Whether logits are products with the codes' embeddings (arXiv 1608.05859), not with weights of their own.

    Raises:
        ValueError: If heads do not divide the width into even parts, or ``kv_heads`` do not divide the heads.
    """

    def __init__(
        self,
        layout: CodeLayout,
        num_classes: int = 0,
        width: int = 256,
        layers: int = 6,
        heads: int = 4,
        kv_heads: int = 1,
        dropout: float = 0.1,
        tied: bool = False,
    ) -> None:
        super().__init__(layout, num_classes)
        if width % (2 * heads):
            raise ValueError(f"width is a multiple of twice the heads, got width {width} and {heads} heads")
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"kv_heads divide the heads, got {kv_heads} and {heads} heads")
        self.code = nn.Embedding(sum(layout.codebook_sizes), width)  # each grid's codes have rows of their own
        self.label = nn.Embedding(num_classes + 1, width)  # the last row is "any class"
        self.place = nn.Embedding(layout.length, width)
        several = len(layout.grids) > 1
        self.grid = nn.Embedding(len(layout.grids), width) if several else None  # of one grid, place says it all
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, kv_heads, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        self.head = None if tied else nn.Linear(width, sum(layout.codebook_sizes), bias=False)
        places = coordinates(layout)  # [T, AXES]
        before_first = torch.full((1, AXES), -1.0)  # where the slot without a code lies
        key_places = torch.cat([before_first, places[:-1]])
        self.register_buffer("query_turns", rotary_turns(places, width // heads), persistent=False)
        self.register_buffer("key_turns", rotary_turns(key_places, width // heads), persistent=False)
        lengths, sizes = torch.tensor(layout.lengths), torch.tensor([0, *layout.codebook_sizes])
        self.register_buffer("grid_at", torch.arange(len(lengths)).repeat_interleave(lengths), persistent=False)
        self.register_buffer("code_rows", sizes.cumsum(0)[self.grid_at], persistent=False)  # [T]: of code 0
        self.apply(initialise)
        for block in self.stack:
            for last in (block.attention.out, block.feed_forward.out):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)  # the stream's variance stays level

    query_turns: Tensor
    key_turns: Tensor
    grid_at: Tensor
    code_rows: Tensor

    @property
    def stack(self) -> list[Block]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']`` and class indices ``labels [B]``."""
        length = codes.shape[1]
        known = self.code(codes[:, :-1] + self.code_rows[: length - 1])  # [B, T' - 1, width]
        x = F.pad(known, (0, 0, 1, 0)) + self.places()[:length] + self.label(labels)[:, None]
        x = self.dropout(x)
        for block in self.stack:
            x = block(x, self.query_turns[:, :length], self.key_turns[:, :length])
        by_grid = self.norm(x).tensor_split(list(accumulate(self.layout.lengths))[:-1], dim=1)
        logits = [F.linear(x, weight) for x, weight in zip(by_grid, self.head_weights(), strict=True)]
        return torch.cat([F.pad(x, (0, self.layout.vocabulary - x.shape[2])) for x in logits], dim=1)

    def places(self) -> Tensor:
        """What is added to the slot that predicts each position, ``[T, width]``."""
        return self.place.weight if self.grid is None else self.place.weight + self.grid(self.grid_at)

    def head_weights(self) -> tuple[Tensor, ...]:
        """The last linear layer's weight for each grid, ``[codebook size, width]``."""
        weight = self.code.weight if self.head is None else self.head.weight
        return weight.split(self.layout.codebook_sizes)

    def incremental(self, labels: Tensor) -> CachedTransformer:
        """The prior at the start of drawing codes for ``labels [B]``, with a key-value cache."""
        return CachedTransformer(self, labels)

    def frozen(self) -> AbstractContextManager[None]:
        """Incremental forms that begin inside share one copy of the weights, laid out for them."""
        return sharing(self)


class Block(nn.Module):
    """Pre-norm attention and feed-forward branches around one residual stream."""

    def __init__(self, width: int, heads: int, kv_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=EPSILON)
        self.attention = Attention(width, heads, kv_heads, dropout)
        self.feed_forward_norm = nn.RMSNorm(width, eps=EPSILON)
        self.feed_forward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, query_turns: Tensor, key_turns: Tensor) -> Tensor:
        """Transform ``x [B, T, width]``."""
        x = x + self.dropout(self.attention(self.attention_norm(x), query_turns, key_turns))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Attention(nn.Module):
    """Causal attention with normalised, rotated queries and keys; heads share keys and values."""

    def __init__(self, width: int, heads: int, kv_heads: int, dropout: float) -> None:
        super().__init__()
        self.shape = (heads, kv_heads, kv_heads)  # heads of queries, keys and values
        self.dropout = dropout
        self.qkv = nn.Linear(width, width // heads * sum(self.shape), bias=False)
        self.query_norm = nn.RMSNorm(width // heads, eps=EPSILON)
        self.key_norm = nn.RMSNorm(width // heads, eps=EPSILON)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, x: Tensor, query_turns: Tensor, key_turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[B, heads, T, D]``, keys and values ``[B, kv_heads, T, D]`` of ``x [B, T, width]``."""
        by_head = rearrange(self.qkv(x), "b t (h d) -> b h t d", h=sum(self.shape))
        q, k, v = by_head.split(self.shape, dim=1)
        return rotate(self.query_norm(q), query_turns), rotate(self.key_norm(k), key_turns), v

    def forward(self, x: Tensor, query_turns: Tensor, key_turns: Tensor) -> Tensor:
        """Attend from every slot of ``x [B, T, width]`` to itself and those before."""
        q, k, v = self.project(x, query_turns, key_turns)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, enable_gqa=True)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))


class SwiGLU(nn.Module):
    """A gated feed-forward layer (arXiv 2002.05202) with as many weights as one of four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-8 * width // 3 // 16) * 16  # 8/3 of the width, to the next multiple of 16
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x [..., width]``."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


def coordinates(layout: CodeLayout) -> Tensor:
    """Centre of every position in the finest grid's units, float32 ``[T, AXES]``."""
    per_grid = []
    for grid in layout.grids:
        finest = [max(other[axis] for other in layout.grids if len(other) == len(grid)) for axis in range(len(grid))]
        axes = [(torch.arange(size) + 0.5) * fine / size for size, fine in zip(grid, finest, strict=True)]
        axes += [torch.zeros(1)] * (AXES - len(grid))
        per_grid.append(torch.cartesian_prod(*axes))
    return torch.cat(per_grid)


def rotary_turns(places: Tensor, dim: int, longest: float = 100.0) -> Tensor:
    """Rotation of every pair of channels (arXiv 2104.09864), the pairs shared out among the axes in use.

    Args:
        places: ``[T, AXES]``.
        dim: Channels of a head.
        longest: Longest wavelength over 2π, in positions.

    Returns:
        Cosines and sines, ``[2, T, dim / 2]``.
    """
    used = [axis for axis in range(AXES) if places[1:, axis].any()] or [0]
    parts = torch.arange(dim // 2).tensor_split(len(used))
    angles = []
    for axis, part in zip(used, parts, strict=True):
        frequencies = longest ** (-torch.arange(len(part)) / max(len(part), 1))
        angles.append(places[:, axis, None] * frequencies)
    angle = torch.cat(angles, dim=1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the pairs ``(x[i], x[i + D/2])`` of ``x [B, heads, T, D]`` by ``turns [2, T, D / 2]``."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = turns.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def initialise(module: nn.Module) -> None:
    """GPT-2's start: small normal weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
