"""Mean and covariance of one batch spread over many processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stage1_vqvae.quantizers.ranks import sum_over_ranks
from stage1_vqvae.quantizers.shapes import finite


class Moments(NamedTuple):
    """Moments of a batch of vectors.

    Attributes:
        mean: ``[D]``.
        covariance: ``[D, D]``.
    """

    mean: Tensor
    covariance: Tensor


@torch.no_grad()
def moments_over_ranks(rows: Tensor) -> Moments:
    """Moments of all ranks' finite rows, the same on every rank; NaN where there are none.

    Every rank must call this, also one with no rows.

    Args:
        rows: This rank's part, ``[n, D]``.
    """
    counted = finite(rows)[:, None]
    count = counted.sum(0).to(rows.dtype)
    total = rows.where(counted, 0).sum(0)
    sum_over_ranks(count, total)
    mean = total / count
    centred = (rows - mean).where(counted, 0)  # before the products, so that a mean far from the origin costs no digits
    with torch.autocast(rows.device.type, enabled=False):
        products = centred.T @ centred
    sum_over_ranks(products)
    return Moments(mean, products / count)
