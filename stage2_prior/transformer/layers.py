"""The layers of a transformer: blocks of causal attention and SwiGLU around one residual stream."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage2_prior.norms import Norm
from stage2_prior.transformer.rope import rotate


class Block(nn.Module):
    """Pre-norm attention and feed-forward branches around one residual stream.

    Args:
        width: Channels of the residual stream.
        heads: Attention heads of the queries.
        kv_heads: Attention heads of keys and values; they divide ``heads``.
        dropout: On the output of both branches.
        attention_dropout: On the attention weights.
    """

    def __init__(self, width: int, heads: int, kv_heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention_norm = Norm(width)
        self.attention = Attention(width, heads, kv_heads, attention_dropout)
        self.feed_forward_norm = Norm(width)
        self.feed_forward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, query_rope: Tensor, key_rope: Tensor) -> Tensor:
        """Transform ``x [B, T, width]``; the rotations are ``[2, T, D / 2]`` each, or ``[2, B, 1, T, D / 2]``."""
        q, k, v = self.attention.project(self.attention_norm(x), query_rope, key_rope)
        x = x + self.dropout(self.attention.attend(q, k, v))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Attention(nn.Module):
    """Causal attention with normalised, rotated queries and keys; heads may share keys and values.

    Args:
        width: Channels of input and output.
        heads: Heads of the queries.
        kv_heads: Heads of keys and values, each shared by ``heads / kv_heads`` heads (arXiv 2305.13245).
        dropout: On the attention weights, in training.
    """

    def __init__(self, width: int, heads: int, kv_heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.kv_heads = kv_heads
        self.dropout = dropout
        dim = width // heads
        self.qkv = nn.Linear(width, dim * (heads + 2 * kv_heads), bias=False)
        self.query_norm = Norm(dim)
        self.key_norm = Norm(dim)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, x: Tensor, query_rope: Tensor, key_rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[B, heads, T, D]``, keys and values ``[B, kv_heads, T, D]`` of ``x [B, T, width]``."""
        by_head = rearrange(self.qkv(x), "b t (h d) -> b h t d", h=self.heads + 2 * self.kv_heads)
        q, k, v = by_head.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        return rotate(self.query_norm(q), query_rope), rotate(self.key_norm(k), key_rope), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from every slot to itself and those before: output ``[B, T, width]`` of what :meth:`project` gives."""
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, enable_gqa=True)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))

    def forward(self, x: Tensor, query_rope: Tensor, key_rope: Tensor) -> Tensor:
        """Transform ``x [B, T, width]``; the rotations are ``[2, T, D / 2]`` each."""
        return self.attend(*self.project(x, query_rope, key_rope))


class SwiGLU(nn.Module):
    """A gated feed-forward layer (arXiv 2002.05202) with as many weights as an ungated one of four times the width.

    Args:
        width: Channels of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = -(-8 * width // 3 // 16) * 16  # 8/3 of the width, to the next multiple of 16
        self.gate_and_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x [..., width]``."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


def initialise(module: nn.Module) -> None:
    """Draw the weights of linear layers and embeddings from a normal distribution of deviation 0.02, as GPT-2 does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
