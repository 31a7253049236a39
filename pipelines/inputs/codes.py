"""The door for codes that begin images; that for codes of whole images is in :mod:`stage1_vqvae.codes`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout


def prefix_codes(prefix: Any, n: int, layout: CodeLayout) -> Tensor:
    """Codes that begin with a prefix, int64 ``[n, T]``; -1 for the others.

    Args:
        prefix: Integers ``[t]`` for all images or ``[n, t]``, of torch, numpy or nested lists.
        n: Number of images.
        layout: How codes are laid out.

    Raises:
        ValueError: If they are no integers, of another shape, or a code does not exist.
    """
    found = torch.as_tensor(prefix).cpu()
    integers = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not integers or found.shape[:-1] not in ((), (n,)) or not 1 <= found.shape[-1] <= layout.length:
        raise ValueError(
            f"prefix: integers [t] or [{n}, t] with t from 1 to {layout.length} expected, "
            f"got {found.dtype} {list(found.shape)}"
        )
    codes = torch.zeros(n, layout.length, dtype=torch.int64)
    codes[:, : found.shape[-1]] = found
    layout.check(codes)
    codes[:, found.shape[-1] :] = -1
    return codes
