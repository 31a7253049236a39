"""A causal transformer over codes ``[B, T]``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.prior import Prior

AXES = 3
"""Axes of a grid at most; grids with fewer lie at 0 on the others."""


class Transformer(Prior):
    """A decoder-only transformer: RMSNorm, SwiGLU, query-key normalisation, rotary positions over the grid's axes.

    Slot t of its input is the class token for t = 0 and code t - 1 after that; it predicts code t. Keys are rotated
    by the place of the code that they hold, queries by the place of the code that they predict, so attention sees
    the true offset between the two, also across the ends of rows. Grids of several resolutions share the finest
    one's coordinates; an embedding of the predicted position tells grids and absolute places apart.

    Args:
        layout: How the codes are laid out.
        num_classes: Number of classes; 0 for a prior without labels.
        width: Channels of the residual stream.
        layers: Number of blocks.
        heads: Attention heads; ``width / heads`` is even.
        dropout: On embeddings, attention and the output of every branch.

    Raises:
        ValueError: If heads do not divide the width into even parts.
    """

    def __init__(
        self,
        layout: CodeLayout,
        num_classes: int = 0,
        width: int = 256,
        layers: int = 6,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(layout, num_classes)
        if width % (2 * heads):
            raise ValueError(f"width is a multiple of twice the heads, got width {width} and {heads} heads")
        self.code = nn.Embedding(sum(layout.codebook_sizes), width)  # each grid's codes have rows of their own
        self.label = nn.Embedding(num_classes + 1, width)  # the last row is "any class"
        self.place = nn.Embedding(layout.length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, layout.vocabulary, bias=False)
        self.heads = heads
        places = coordinates(layout)  # [T, AXES]
        before_first = torch.full((1, AXES), -1.0)  # where the class token lies
        self.register_buffer("query_angles", rotary_angles(places, width // heads), persistent=False)
        self.register_buffer(
            "key_angles", rotary_angles(torch.cat([before_first, places[:-1]]), width // heads), persistent=False
        )
        first_row = torch.tensor([0, *layout.codebook_sizes]).cumsum(0)[:-1]
        self.register_buffer(
            "code_rows", first_row.repeat_interleave(torch.tensor(layout.lengths)), persistent=False
        )  # [T]
        self.apply(initialise)
        for block in self.stack:
            for last in (block.attention.out, block.feed_forward.out):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)  # the stream's variance stays level

    query_angles: Tensor
    key_angles: Tensor
    code_rows: Tensor

    @property
    def stack(self) -> list[Block]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']`` and class indices ``labels [B]``."""
        length = codes.shape[1]
        known = self.code(codes[:, :-1] + self.code_rows[: length - 1])  # [B, T' - 1, width]
        x = torch.cat([self.label(labels)[:, None], known], dim=1) + self.place.weight[:length]
        x = self.dropout(x)
        for block in self.stack:
            x = block(x, self.query_angles[:length], self.key_angles[:length])
        return self.head(self.norm(x))

    def incremental(self, labels: Tensor) -> CachedTransformer:
        """The prior at the start of drawing codes for ``labels [B]``, with a preallocated key-value cache."""
        return CachedTransformer(self, labels)


class Block(nn.Module):
    """Pre-norm attention and feed-forward branches around one residual stream."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, query_angles: Tensor, key_angles: Tensor) -> Tensor:
        """Transform ``x [B, T, width]``."""
        x = x + self.dropout(self.attention(self.attention_norm(x), query_angles, key_angles))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Attention(nn.Module):
    """Causal multi-head attention with normalised, rotated queries and keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, x: Tensor, query_angles: Tensor, key_angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, heads, T, width / heads]`` of ``x [B, T, width]``."""
        q, k, v = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        return rotate(self.query_norm(q), query_angles), rotate(self.key_norm(k), key_angles), v

    def forward(self, x: Tensor, query_angles: Tensor, key_angles: Tensor) -> Tensor:
        """Attend from every slot of ``x [B, T, width]`` to itself and those before."""
        q, k, v = self.project(x, query_angles, key_angles)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
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


class CachedTransformer:
    """A transformer that keeps the keys and values of the slots behind it, so that a new code costs one slot."""

    def __init__(self, prior: Transformer, labels: Tensor) -> None:
        self.prior = prior
        self.labels = prior.class_index(labels, len(labels), labels.device)
        self.slot = 0
        weight = prior.head.weight
        shape = (len(labels), prior.heads, prior.layout.length, weight.shape[1] // prior.heads)
        self.keys = [weight.new_empty(shape) for _ in prior.blocks]  # [B, heads, T, width / heads]
        self.values = [weight.new_empty(shape) for _ in prior.blocks]

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        prior, slot = self.prior, self.slot
        token = prior.label(self.labels) if codes is None else prior.code(codes + prior.code_rows[slot - 1])
        x = (token + prior.place.weight[slot])[:, None]  # [B, 1, width]
        for block, keys, values in zip(prior.stack, self.keys, self.values, strict=True):
            x = x + self._attend(block.attention, block.attention_norm(x), keys, values)
            x = x + block.feed_forward(block.feed_forward_norm(x))
        self.slot += 1
        return prior.head(prior.norm(x))[:, 0].masked_fill(prior.absent[slot], -torch.inf)

    def _attend(self, attention: Attention, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        here = slice(self.slot, self.slot + 1)
        q, keys[:, :, here], values[:, :, here] = attention.project(
            x, self.prior.query_angles[here], self.prior.key_angles[here]
        )
        mixed = F.scaled_dot_product_attention(q, keys[:, :, : here.stop], values[:, :, : here.stop])
        return attention.out(rearrange(mixed, "b h t d -> b t (h d)"))


def coordinates(layout: CodeLayout) -> Tensor:
    """Centre of every position in the finest grid's units, float32 ``[T, AXES]``."""
    per_grid = []
    for grid in layout.grids:
        finest = [max(other[axis] for other in layout.grids if len(other) == len(grid)) for axis in range(len(grid))]
        axes = [(torch.arange(size) + 0.5) * fine / size for size, fine in zip(grid, finest, strict=True)]
        axes += [torch.zeros(1)] * (AXES - len(grid))
        per_grid.append(torch.cartesian_prod(*axes))
    return torch.cat(per_grid)


def rotary_angles(places: Tensor, dim: int, longest: float = 100.0) -> Tensor:
    """Rotation angle of every pair of channels (arXiv 2104.09864), the pairs shared out among the axes in use.

    Args:
        places: ``[T, AXES]``.
        dim: Channels of a head.
        longest: Longest wavelength over 2π, in positions.

    Returns:
        ``[T, dim / 2]``.
    """
    used = [axis for axis in range(AXES) if places[1:, axis].any()] or [0]
    parts = torch.arange(dim // 2).tensor_split(len(used))
    angles = []
    for axis, part in zip(used, parts, strict=True):
        frequencies = longest ** (-torch.arange(len(part)) / max(len(part), 1))
        angles.append(places[:, axis, None] * frequencies)
    return torch.cat(angles, dim=1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs ``(x[i], x[i + D/2])`` of ``x [B, heads, T, D]`` by ``angles [T, D / 2]``."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def initialise(module: nn.Module) -> None:
    """GPT-2's start: small normal weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
