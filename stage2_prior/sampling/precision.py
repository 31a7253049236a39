"""Priors in lower precision for drawing, and what is kept of them between samplings."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal
from weakref import WeakKeyDictionary

import torch

from stage2_prior.prior import Prior
from stage2_prior.sampling import cuda_graph

Precision = Literal["float32", "bfloat16"]
"""Of a prior's weights and activations while it draws."""

_copies: WeakKeyDictionary[Prior, Prior] = WeakKeyDictionary()


@torch.no_grad()
def in_precision(prior: Prior, precision: Precision) -> Prior:
    """The prior itself for float32, else a copy in the precision, with the weights as they are now.

    It is the same copy each time, so that what is kept for a prior, such as CUDA graphs, is kept for its copy too.
    """
    first = None if precision == "float32" else next(prior.parameters())
    if first is None or first.dtype == torch.bfloat16:
        return prior
    copy = _copies.get(prior)
    if copy is None or next(copy.parameters()).device != first.device:
        copy = _copies[prior] = deepcopy(prior).to(torch.bfloat16).requires_grad_(False)
    for mine, theirs in zip(copy.state_dict().values(), prior.state_dict().values(), strict=True):
        mine.copy_(theirs)
    return copy.train(prior.training)


def release(prior: Prior) -> None:
    """Free what is kept for a prior between samplings: its copy in lower precision, and on a GPU weights, caches and
    recordings. The next sampling makes them anew.

    Call it between samplings, for instance when the memory is needed for training.
    """
    for kept in (prior, _copies.pop(prior, None)):
        if kept is not None:
            cuda_graph.release(kept)
