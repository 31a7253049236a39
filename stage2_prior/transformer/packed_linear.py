"""Matrices that few rows are multiplied with, laid out so that this is fast."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

PACKED_FROM = 4
"""Rows from which oneDNN's packed products are faster than plain ones on a CPU: by a quarter to a half at 8 and 16."""


class Matrix:
    """A linear layer's weight, ``[inputs, outputs]``.

    On a CPU a weight is packed for oneDNN where PyTorch has it. Products of any layout round in ways of their own, and
    always the same for as many rows.

    Args:
        weight: As the layer has it, ``[outputs, inputs]``; copied.
        rows: Of what is multiplied with it.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        self.packed = weight.device.type == "cpu" and rows >= PACKED_FROM and has_packed_products(weight.dtype)
        # Transposed, a plain product of few rows is faster.
        self.tensor = pack(weight, rows) if self.packed else weight.T.contiguous()

    def times(self, x: Tensor) -> Tensor:
        """``x @ W`` for ``x [rows, inputs]``."""
        return (
            mkldnn()._linear_pointwise.default(x, self.tensor, None, "none", [], None)
            if self.packed
            else x @ self.tensor
        )

    def added(self, residual: Tensor, x: Tensor) -> Tensor:
        """``residual + x @ W``."""
        if self.packed:
            return mkldnn()._linear_pointwise.binary(x, residual, self.tensor, None, "add")
        return torch.addmm(residual, x, self.tensor)


def pack(weight: Tensor, rows: int) -> Tensor:
    """A weight ``[outputs, inputs]`` in oneDNN's layout for so many rows; only its products can read it."""
    return mkldnn()._reorder_linear_weight(weight.contiguous(), rows)


def mkldnn() -> Any:
    """PyTorch's operations of oneDNN, those that its compiler uses."""
    return torch.ops.mkldnn


@cache
def has_packed_products(dtype: torch.dtype) -> bool:
    """Whether this machine has packed products of a type, found out by trying them once.

    The operations may be missing from a build of PyTorch, and a processor may lack the instructions that a type needs:
    bfloat16 needs more than AVX2. Then products are plain ones.

    Args:
        dtype: Of weights and inputs.
    """
    weight, x = torch.eye(16, dtype=dtype), torch.ones(PACKED_FROM, 16, dtype=dtype)
    try:
        packed = pack(weight, len(x))
        products = mkldnn()._linear_pointwise.default(x, packed, None, "none", [], None)
        added = mkldnn()._linear_pointwise.binary(x, x, packed, None, "add")
    # A missing operation is an AttributeError, a missing instruction a RuntimeError; builds differ in the rest.
    except Exception:
        return False
    return torch.equal(products, x) and torch.equal(added, x + x)
