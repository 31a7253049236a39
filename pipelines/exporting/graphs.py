"""What is exported: functions of tensors alone, with the batch as their one open size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pipelines.exporting.pixelcnn import PixelCNNStep
from pipelines.exporting.step import PriorStep, attend
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.prior import Prior
from stage2_prior.transformer.model import Transformer


class Encoder(nn.Module):
    """Codes, int64 ``[B, T]``, of images ``[B, C, H, W]`` in [0, 1].

    Args:
        tokenizer: In eval mode.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, images: Tensor) -> Tensor:
        """Encode images."""
        return self.tokenizer.encode(images * 2 - 1)


class Decoder(nn.Module):
    """Images ``[B, C, H, W]`` in [0, 1] of codes ``[B, T]``.

    Args:
        tokenizer: In eval mode.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, codes: Tensor) -> Tensor:
        """Decode codes."""
        return (self.tokenizer.decode(codes) + 1) / 2


class CachedStep(PriorStep):
    """A transformer's: the state is the keys and values of the positions so far, each ``[B, layers, heads, T, D]``.

    Args:
        prior: In eval mode.
    """

    def __init__(self, prior: Transformer) -> None:
        super().__init__()
        self.prior = prior
        layout = prior.layout
        last = sum(layout.codebook_sizes) - 1
        rows = prior.code_rows[:, None] + torch.arange(layout.vocabulary)
        self.register_buffer("rows", rows.clamp(max=last))  # [T, K]: of each position's codes among those of all grids

    rows: Tensor

    def state(self, batch: int) -> list[Tensor]:
        """Keys and values, zeros."""
        attention = self.prior.stack[0].attention
        dim = attention.out.in_features // attention.heads
        shape = (batch, len(self.prior.stack), attention.kv_heads, self.prior.layout.length, dim)
        return [torch.zeros(shape), torch.zeros(shape)]

    def forward(
        self, codes: Tensor, labels: Tensor, position: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of a position, and keys and values with its own."""
        prior = self.prior
        before = (position - 1).clamp(min=0)
        known = prior.code(codes + prior.code_rows[before]) * (position > 0).float()  # slot 0 holds no code
        x = (known + prior.positions()[position] + prior.label(labels))[:, None]  # [B, 1, width]
        rotations = prior.query_rope[:, position], prior.key_rope[:, position]
        cache: list[list[Tensor]] = []
        for index, block in enumerate(prior.stack):
            attention = block.attention
            query, key, value = attention.project(block.attention_norm(x), *rotations)
            mixed, *pair = attend(query, key, value, keys[:, index], values[:, index], position)
            cache.append(pair)
            x = x + attention.out(rearrange(mixed, "b h t d -> b t (h d)"))
            x = x + block.feed_forward(block.feed_forward_norm(x))
        every = F.linear(prior.norm(x)[:, 0], torch.cat(prior.head_weights()))  # [B, codes of all grids]
        logits = every[:, self.rows[position][0]].masked_fill(prior.absent[position], -torch.inf)
        new_keys, new_values = (torch.stack(each, 1) for each in zip(*cache, strict=True))
        return logits, new_keys, new_values


class WholeStep(PriorStep):
    """Any prior's: the state is the codes so far, int64 ``[B, T]``, and every position computes all of them anew.

    Args:
        prior: In eval mode.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        self.register_buffer("slots", torch.arange(prior.layout.length))

    slots: Tensor

    def state(self, batch: int) -> list[Tensor]:
        """No codes: zeros."""
        return [torch.zeros(batch, self.prior.layout.length, dtype=torch.int64)]

    def forward(self, codes: Tensor, labels: Tensor, position: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a position, and the codes with the one before it."""
        known = torch.where(self.slots == position - 1, codes[:, None], known)
        logits = self.prior.predict(known, labels).index_select(1, position)[:, 0]
        return logits.masked_fill(self.prior.absent[position], -torch.inf), known


def step_of(prior: Prior) -> PriorStep:
    """The step of a prior: with a cache where it is one of ours."""
    if isinstance(prior, Transformer):
        return CachedStep(prior)
    return PixelCNNStep(prior) if isinstance(prior, PixelCNN) else WholeStep(prior)
