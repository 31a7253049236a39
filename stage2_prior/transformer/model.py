"""A causal transformer over codes ``[B, T]``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stage1_vqvae.codes import CodeLayout
from stage2_prior.frozen import frozen, prepared
from stage2_prior.norms import Norm
from stage2_prior.prior import Prior
from stage2_prior.transformer.cache import CachedTransformer
from stage2_prior.transformer.layers import Block, initialise
from stage2_prior.transformer.packed_linear import PackedLinear
from stage2_prior.transformer.rope import AXES, coordinates, rope
from stage2_prior.transformer.weights import BlockWeights, Weights, rope_factors


class Transformer(Prior):
    """A decoder-only transformer: RMSNorm, SwiGLU, query-key normalisation, rotary positions over the grid's axes.

    Slot t of its input holds code t - 1 and predicts code t; slot 0 holds no code. An embedding of the class is added
    to every slot. Keys are rotated by the position of the code that their slot holds, queries by the position of the
    code that it predicts, so attention sees the true offset between the two, also across the ends of rows. Grids of
    several resolutions share the finest one's coordinates; embeddings of the predicted position and of its grid tell
    absolute positions and grids apart.

    By default all heads share keys and values (arXiv 1911.02150). These are most of what sampling reads again for
    every code.

    Args:
        layout: How the codes are laid out.
        num_classes: Number of classes; 0 for a prior without labels.
        width: Channels of the residual stream.
        layers: Number of blocks.
        heads: Attention heads; ``width / heads`` is even.
        kv_heads: Heads of keys and values, each shared by ``heads / kv_heads`` heads (arXiv 2305.13245); as many as
            ``heads`` for attention in which nothing is shared.
        dropout: On embeddings and the output of every branch.
        attention_dropout: On the attention weights; None for as much as ``dropout``. Fused attention has none, so a
            step without it is faster, the more so the longer the sequence.
        tied: Whether logits are products with the codes' embeddings (arXiv 1608.05859) and not with separate weights.
        activation_checkpointing: Whether activations inside a block are computed again in the backward pass: less
            memory in training, more time, the same numbers (arXiv 1604.06174).

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
        attention_dropout: float | None = None,
        tied: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(layout, num_classes)
        if width % (2 * heads):
            raise ValueError(f"width is a multiple of twice the heads, got width {width} and {heads} heads")
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"kv_heads divide the heads, got {kv_heads} and {heads} heads")
        self.code = nn.Embedding(sum(layout.codebook_sizes), width)  # each grid's codes have rows of their own
        self.label = nn.Embedding(num_classes + 1, width)  # the last row is the null class
        self.position = nn.Embedding(layout.length, width)
        self.grid = nn.Embedding(len(layout.grids), width) if len(layout.grids) > 1 else None
        self.dropout = nn.Dropout(dropout)
        on_attention = dropout if attention_dropout is None else attention_dropout
        self.blocks = nn.ModuleList(Block(width, heads, kv_heads, dropout, on_attention) for _ in range(layers))
        self.activation_checkpointing = activation_checkpointing
        self.norm = Norm(width)
        self.head = None if tied else nn.Linear(width, sum(layout.codebook_sizes), bias=False)
        positions, dim = coordinates(layout), width // heads  # [T, AXES]
        before_first = torch.full((1, AXES), -1.0)  # where the slot without a code lies
        axes = max(map(len, layout.grids)) if layout.length > 1 else 1
        self.register_buffer("query_rope", rope(positions, axes, dim), persistent=False)
        self.register_buffer("key_rope", rope(torch.cat([before_first, positions[:-1]]), axes, dim), persistent=False)
        grid_at = [grid for grid, length in enumerate(layout.lengths) for _ in range(length)]
        first_row = list(accumulate(layout.codebook_sizes, initial=0))
        self.register_buffer("grid_at", torch.tensor(grid_at), persistent=False)  # [T]
        code_rows = torch.tensor([first_row[grid] for grid in grid_at])
        self.register_buffer("code_rows", code_rows, persistent=False)  # [T]: row of code 0 of the position's grid
        self.apply(initialise)
        for block in self.stack:
            for last in (block.attention.out, block.feed_forward.out):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)  # the stream's variance stays level

    any_order = True
    query_rope: Tensor
    key_rope: Tensor
    grid_at: Tensor
    code_rows: Tensor

    @property
    def stack(self) -> list[Block]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']`` and class indices ``labels [B]``."""
        length = codes.shape[1]
        known = codes[:, :-1] + self.code_rows[: length - 1]
        rotations = self.query_rope[:, :length], self.key_rope[:, :length]
        return self._logits(known, labels, self.positions()[:length], *rotations)

    def predict_in_order(self, codes: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """Logits ``[B, T, K]`` of the positions ``order [B, T]``, given the codes of those before in the order.

        Nothing is added to the network: a slot knows by its embedding and its queries' rotation which position it
        predicts, and by its keys' rotation where the code lies that it holds.
        """
        held = order[:, :-1]
        known = codes.gather(1, held) + self.code_rows[held]
        # Queries are rotated by a position itself, so theirs are the rotations of all positions.
        first = self.key_rope[:, None, :1].expand(-1, len(order), -1, -1)
        keys = torch.cat([first, self.query_rope[:, held]], dim=2)  # [2, B, T, D / 2]
        rotations = self.query_rope[:, order][:, :, None], keys[:, :, None]
        return self._logits(known, labels, F.embedding(order, self.positions()), *rotations)

    def _logits(self, known: Tensor, labels: Tensor, positions: Tensor, query_rope: Tensor, key_rope: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` of T' slots.

        Args:
            known: Rows of the embeddings of the codes that all slots but the first hold, int64 ``[B, T' - 1]``.
            labels: Class indices, int64 ``[B]``.
            positions: Embeddings of the positions that the slots predict, ``[T', width]`` or ``[B, T', width]``.
            query_rope, key_rope: Rotations, ``[2, T', D / 2]`` or ``[2, B, 1, T', D / 2]``.
        """
        x = F.pad(self.code(known), (0, 0, 1, 0)) + positions + self.label(labels)[:, None]
        x = self.dropout(x)
        for block in self.stack:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, query_rope, key_rope, use_reentrant=False)
            else:
                x = block(x, query_rope, key_rope)
        by_grid = self.norm(x).tensor_split(list(accumulate(self.layout.lengths))[:-1], dim=1)
        logits = [F.linear(x, weight) for x, weight in zip(by_grid, self.head_weights(), strict=True)]
        return torch.cat([F.pad(x, (0, self.layout.vocabulary - x.shape[2])) for x in logits], dim=1)

    def positions(self) -> Tensor:
        """What is added to the slot that predicts each position, ``[T, width]``."""
        return self.position.weight if self.grid is None else self.position.weight + self.grid(self.grid_at)

    def head_weights(self) -> tuple[Tensor, ...]:
        """The last linear layer's weight for each grid, ``[codebook size, width]``."""
        weight = self.code.weight if self.head is None else self.head.weight
        return weight.split(self.layout.codebook_sizes)

    def incremental(self, labels: Tensor) -> CachedTransformer:
        """The prior at the start of drawing codes for ``labels [B]``, with a key-value cache."""
        weights = prepared(self, "weights", self.folded)
        return CachedTransformer(self, self.layout, weights, self.class_index(labels, len(labels), labels.device))

    def trial_logits(self, labels: Tensor, codes: Tensor) -> Tensor:
        """Logits ``[P, B, K]`` of a few positions, computed as :meth:`incremental` does."""
        return self.incremental(labels).trial_logits(codes)

    @torch.inference_mode()
    def folded(self) -> Weights:
        """A copy of the weights for the incremental form, with norms, rotations and scales multiplied in."""
        first = self.stack[0].attention
        factors = [rope_factors(block.attention, self.query_rope, self.key_rope) for block in self.stack]
        return Weights(
            first.heads,
            first.kv_heads,
            self.code_rows.clone(),
            F.pad(self.code.weight, (0, 0, 0, 1)),
            self.label.weight.clone(),
            self.positions().clone(),
            torch.stack(factors, dim=2),
            [BlockWeights.of(block) for block in self.stack],
            [PackedLinear(weight * self.norm.weight) for weight in self.head_weights()],
        )

    def frozen(self) -> AbstractContextManager[None]:
        """Incremental forms that begin inside share one copy of the weights, laid out for them."""
        return frozen(self)

    def sharding_units(self) -> list[nn.Module]:
        """The blocks."""
        return [*self.blocks]
