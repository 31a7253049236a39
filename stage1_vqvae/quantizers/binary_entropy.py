"""Entropies of distributions over the K = 2^D codes of D bits, without a tensor of N × K."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from stage1_vqvae.quantizers.ranks import is_distributed, sum_over_ranks


def sample_entropy(logits: Tensor) -> Tensor:
    """Mean over rows of the entropy of a code whose bits are independent, in nats: a scalar.

    Args:
        logits: Of each bit being set, ``[N, D]``.
    """
    return (F.softplus(logits) - logits * logits.sigmoid()).sum(1).mean()


def mean_distribution(logits: Tensor) -> Tensor:
    """Mean over rows of the distribution over all codes, bit d of a code's index being column d.

    The probability of a code is a product over its bits, of the lower ones times of the upper ones. Their mean over
    rows is one matrix product of ``[N, 2^⌈D/2⌉]`` and ``[N, 2^⌊D/2⌋]``: exact, and small also for 2^18 codes.

    Args:
        logits: Of each bit being set, ``[N, D]``.

    Returns:
        ``[2^D]``.
    """
    lower, upper = (_products(half) for half in logits.tensor_split([(logits.shape[1] + 1) // 2], dim=1))
    return (upper.T @ lower).flatten() / len(logits)


def entropy(distribution: Tensor) -> Tensor:
    """Entropy in nats of ``distribution [K]``; a probability of 0 has gradient 0."""
    return torch.special.entr(distribution.clamp(min=torch.finfo(distribution.dtype).tiny)).sum()


def over_ranks(mean: Tensor, rows: int) -> Tensor:
    """This rank's ``mean [K]`` of so many rows becomes that of all ranks' rows, in value.

    Its gradient is this rank's share times the number of ranks: averaged over ranks, as DistributedDataParallel does,
    gradients are those of one process on the joined batch. Every rank must call this.
    """
    if not is_distributed():
        return mean
    joined = torch.cat([mean.detach() * rows, mean.new_full((1,), rows)])
    sum_over_ranks(joined)
    joined, total = joined[:-1] / joined[-1], joined[-1]
    return joined + (mean - mean.detach()) * (rows * dist.get_world_size() / total)


def _products(logits: Tensor) -> Tensor:
    """Probability of every combination of a few bits: ``[N, d]`` to ``[N, 2^d]``."""
    found = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(1):
        found = torch.cat([found * (-bit).sigmoid()[:, None], found * bit.sigmoid()[:, None]], dim=1)
    return found
