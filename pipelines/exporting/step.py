"""What every exported step of a prior takes and returns, and what steps share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PriorStep(nn.Module):
    """One position of a prior: ``(codes, labels, position, *state)`` to ``(logits, *new state)``.

    ``codes`` int64 ``[B]`` are those of the position before, anything at first. ``labels`` int64 ``[B]`` are classes,
    their number for the null class. ``position`` is int64 ``[1]``. The state is zeros at first, of the shapes of
    :meth:`state`. Logits are ``[B, K]``, -inf for codes that the position's codebook lacks.
    """

    @abstractmethod
    def state(self, batch: int) -> list[Tensor]:
        """The state at the start, zeros."""


def when(holds: Tensor, change: Callable[..., tuple[Tensor, ...]], *operands: Tensor) -> tuple[Tensor, ...]:
    """``change(*operands)`` where a condition, bool ``[1]``, holds; elsewhere the operands, and nothing is computed."""
    if not torch.compiler.is_exporting():  # eager, cond would compile both branches
        return change(*operands) if bool(holds) else operands

    def changed(*given: Tensor) -> tuple[Tensor, ...]:
        # What the branches return has the same sizes, which is proven only where both have them of the operands, and
        # is laid out alike. A copy is no view of anything else, which a branch may not return.
        new = zip(change(*given), given, strict=True)
        return tuple(each.view(before.shape).clone(memory_format=torch.contiguous_format) for each, before in new)

    def same(*given: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.clone() for each in given)

    return tuple(torch.cond(holds, changed, same, operands))


def attend(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, position: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention from one position to itself and those before it, each key and value shared by as many queries' heads.

    Args:
        query: ``[B, heads, 1, D]``.
        key: Of the position, ``[B, kv_heads, 1, D]``.
        value: Likewise.
        keys: Of all positions, ``[B, kv_heads, T, D]``; what later ones hold does not matter.
        values: Likewise.
        position: int64 ``[1]``.

    Returns:
        Mixed values ``[B, heads, 1, D]``, and keys and values with the position's own.
    """
    slots = torch.arange(keys.shape[2])
    here = (slots == position)[:, None]  # [T, 1]
    keys, values = torch.where(here, key, keys), torch.where(here, value, values)
    shared = query.shape[1] // key.shape[1]
    seen = (slots <= position)[None]  # [1, T]
    spread, mixed = keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1)
    return F.scaled_dot_product_attention(query, spread, mixed, attn_mask=seen), keys, values
