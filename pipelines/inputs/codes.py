"""The door for codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.inputs.numbers import shown
from stage1_vqvae.codes import CodeLayout


def codes_of(codes: Any, layout: CodeLayout) -> Tensor:
    """Codes of images, int64 ``[B, T]``, all of which exist; arguments as for :func:`integer_codes`.

    Raises:
        ValueError: As :func:`integer_codes`, and if a code does not exist in its codebook.
    """
    flat = integer_codes(codes, layout)
    layout.check(flat)
    return flat


def integer_codes(codes: Any, layout: CodeLayout) -> Tensor:
    """Integers in the shape of codes, int64 ``[B, T]`` on the device that they are on; they need not exist as codes.

    Args:
        codes: Integers of any type, of torch, numpy or nested lists: ``[B, T]``, ``[T]`` of one image, or, of a layout
            with a single grid, ``[B, *grid]`` or ``grid``.
        layout: How they are laid out.

    Raises:
        ValueError: If they are no integers, of another shape or of no image.
    """
    try:
        found = torch.as_tensor(np.asarray(codes) if isinstance(codes, list | tuple) else codes)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"codes: integers [B, {layout.length}] expected, got {shown(codes)}") from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"codes: integers [B, {layout.length}] expected, got {found.dtype} {list(found.shape)}")
    flat = _flat(found, layout).to(torch.int64)
    if len(flat) == 0:
        raise ValueError("codes: at least one image's expected, got none")
    return flat


def _flat(codes: Tensor, layout: CodeLayout) -> Tensor:
    shape = tuple(codes.shape)
    if len(layout.grids) == 1 and len(layout.grids[0]) > 1 and shape[-len(layout.grids[0]) :] == layout.grids[0]:
        codes = codes.flatten(-len(layout.grids[0]))
    if codes.ndim == 1:
        codes = codes[None]
    if codes.ndim != 2 or codes.shape[1] != layout.length:
        grid = f" or [B, {', '.join(map(str, layout.grids[0]))}]" if len(layout.grids) == 1 else ""
        raise ValueError(f"codes: integers [B, {layout.length}]{grid} expected, got shape {list(shape)}")
    return codes


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
