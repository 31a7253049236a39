"""The door for codes that begin images; that for codes of whole images is in :mod:`stage1_vqvae.codes`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipelines.inputs.numbers import shown
from stage1_vqvae.codes import CodeLayout


def tensor_of(value: Any, expected: str) -> Tensor:
    """A tensor on the CPU of what torch, numpy or Python's lists hold.

    Args:
        value: What was given.
        expected: Beginning of the message for what holds no numbers.

    Raises:
        ValueError: If it holds no numbers.
    """
    try:
        return torch.as_tensor(value).cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{expected}, got {shown(value)}") from None


def prefix_codes(prefix: Any, n: int, layout: CodeLayout) -> Tensor:
    """Codes that begin with a prefix, int64 ``[n, T]``; -1 for the others.

    Args:
        prefix: Integers ``[t]`` for all images or ``[n, t]``, of torch, numpy or nested lists.
        n: Number of images.
        layout: How codes are laid out.

    Raises:
        ValueError: If they are no integers, of another shape, or a code does not exist.
    """
    expected = f"prefix: integers [t] or [{n}, t] with t from 1 to {layout.length} expected"
    found = tensor_of(prefix, expected)
    integers = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    shaped = found.ndim > 0 and found.shape[:-1] in ((), (n,)) and 1 <= found.shape[-1] <= layout.length
    if not (integers and shaped):
        raise ValueError(f"{expected}, got {found.dtype} {list(found.shape)}")
    codes = torch.zeros(n, layout.length, dtype=torch.int64)
    codes[:, : found.shape[-1]] = found
    layout.check(codes)
    codes[:, found.shape[-1] :] = -1
    return codes
