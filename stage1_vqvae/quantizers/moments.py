"""Mean and covariance of one batch spread over many processes."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.ranks import sum_over_ranks


@torch.no_grad()
def moments_over_ranks(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` and covariance ``[D, D]`` of all ranks' rows, the same on every rank; NaN where there are none.

    Every rank must call this, also one with no rows.

    Args:
        rows: This rank's part, ``[n, D]``.
    """
    count = rows.new_full((1,), len(rows))
    total = rows.sum(0)
    sum_over_ranks(count, total)
    mean = total / count
    centred = rows - mean  # before the products, so that a mean far from the origin costs no digits
    with torch.autocast(rows.device.type, enabled=False):
        products = centred.T @ centred
    sum_over_ranks(products)
    return mean, products / count
