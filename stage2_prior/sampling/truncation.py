"""What sampling leaves of a distribution: top-k, top-p, min-p, and rules of one's own.

Each takes logits ``[B, K]`` and returns them with the codes that it drops at -inf. What top-k, top-p and min-p keep
depends on the probabilities alone, not on the order of the codes: codes as likely as the least likely one kept are
kept too.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from stage1_vqvae.devices import widest_float

MASS_BITS = 40
"""Probabilities are summed as integers in units of 2^-40: such sums are exact, in any order, on any device."""


class LogitsProcessor(Protocol):
    """A sampling rule of one's own: it changes the logits from which a code is drawn.

    The rows are images. A rule treats each row by itself, or an image would depend on what is drawn beside it.
    """

    def __call__(self, logits: Tensor, codes: Tensor) -> Tensor:
        """New logits ``[B, K]``.

        Args:
            logits: float32 ``[B, K]``, after the temperature and the other rules; -inf for codes that are dropped.
            codes: The codes before, int64 ``[B, t]``.
        """
        ...


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` likeliest codes."""
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, share: float) -> Tensor:
    """Keep the likeliest codes that together hold a ``share`` of the probability, no more than it takes.

    This is nucleus sampling (arXiv 1904.09751): a code stays if all likelier ones together hold less than the share.
    """
    if share >= 1:
        return logits
    probabilities = logits.float().softmax(-1)
    ordered = probabilities.sort(dim=-1, descending=True).values
    # [B, K]: what each code and the likelier ones hold
    held = (ordered.to(widest_float(ordered.device)) * 2**MASS_BITS).round().long().cumsum(-1)
    last = (held < held[:, -1:] * share).sum(-1, keepdim=True)  # the first code by which the share is held
    return logits.masked_fill(probabilities < ordered.gather(-1, last), -torch.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep the codes at least ``share`` times as likely as the likeliest (arXiv 2407.01082)."""
    if share == 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -torch.inf)
