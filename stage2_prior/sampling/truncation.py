"""What sampling leaves of a distribution: top-k, top-p and min-p, none of which sorts all codes.

Each takes logits ``[B, K]`` and returns them with the codes that it drops at -inf. What is kept depends on the
probabilities alone, not on the order of the codes: codes as likely as the least likely one kept are kept too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASS_BITS = 40
"""Probabilities are summed as integers in units of 2^-40: such sums are exact, in any order, on any device."""

DIGIT_BITS = 10
"""Bits of a probability that one histogram tells apart; a float32 of at most 1 has 30."""


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
    # Numbers of one sign are ordered as their bits are.
    keys = probabilities.view(torch.int32)
    mass = (probabilities.double() * 2**MASS_BITS).round().long()
    return logits.masked_fill(keys < _threshold(keys, mass, share), -torch.inf)


def _threshold(keys: Tensor, mass: Tensor, share: float) -> Tensor:
    """The largest key at and above which a row of ``mass [B, K]`` holds the share: int32 ``[B, 1]``.

    A radix selection: each round finds the next digit of the threshold from a histogram of the mass by that digit.
    """
    goal = mass.sum(-1, keepdim=True).double() * share  # [B, 1]
    threshold = torch.zeros_like(keys[:, :1])
    above = torch.zeros_like(mass[:, :1])  # mass of the keys whose digits so far are above the threshold's
    for shift in (2 * DIGIT_BITS, DIGIT_BITS, 0):
        equal = keys >> (shift + DIGIT_BITS) == threshold >> (shift + DIGIT_BITS)
        digits = (keys >> shift & 2**DIGIT_BITS - 1).long()
        histogram = mass.new_zeros(len(mass), 2**DIGIT_BITS + 1).scatter_add_(-1, digits, mass * equal)
        at_least = histogram.flip(-1).cumsum(-1).flip(-1) + above
        digit = (at_least >= goal).sum(-1, keepdim=True) - 1
        above = at_least.gather(-1, digit + 1)
        threshold = threshold | (digit << shift).int()
    return threshold


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep the codes at least ``share`` times as likely as the likeliest (arXiv 2407.01082)."""
    if share == 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -torch.inf)
