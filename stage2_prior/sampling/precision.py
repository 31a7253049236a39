"""Priors in lower precision, for drawing."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal
from weakref import WeakKeyDictionary

import torch

from stage2_prior.prior import Prior

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
