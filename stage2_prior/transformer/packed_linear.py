"""Linear layers that few rows go through, their weights laid out so that this is fast."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

ROWS = 16
"""Rows that weights are packed for; packed products of fewer and of more rows are correct too."""


class PackedLinear:
    """``x @ W.T`` for few rows x, without a bias.

    On a CPU, a bfloat16 weight is packed for oneDNN, where PyTorch and the processor can: a plain product would pack
    it at every call, which takes half the time and more. A plain product of float32 reads the weight as it is, and
    has less to do around it.

    The layout is chosen by the type alone and not by timing, since products of different layouts round differently.

    Args:
        weight: As a linear layer has it, ``[outputs, inputs]``; copied.
    """

    def __init__(self, weight: Tensor) -> None:
        on_cpu, half = weight.device.type == "cpu", weight.dtype == torch.bfloat16
        self.packed = on_cpu and half and has_packed_products(weight.dtype)
        # Transposed, a plain product of few rows is faster.
        self.tensor = pack(weight) if self.packed else weight.T.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """``x @ W.T`` for ``x [rows, inputs]``."""
        if self.packed:
            return mkldnn()._linear_pointwise.default(x, self.tensor, None, "none", [], None)
        return x @ self.tensor

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """``residual + x @ W.T`` for ``residual [rows, outputs]`` and ``x [rows, inputs]``."""
        if self.packed:
            return mkldnn()._linear_pointwise.binary(x, residual, self.tensor, None, "add")
        return torch.addmm(residual, x, self.tensor)


def pack(weight: Tensor) -> Tensor:
    """A weight ``[outputs, inputs]`` in oneDNN's own layout, which only its products can read."""
    return mkldnn()._reorder_linear_weight(weight.contiguous(), ROWS)


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
    weight, x = torch.eye(16, dtype=dtype), torch.ones(4, 16, dtype=dtype)
    try:
        packed = pack(weight)
        products = mkldnn()._linear_pointwise.default(x, packed, None, "none", [], None)
        added = mkldnn()._linear_pointwise.binary(x, x, packed, None, "add")
    # A missing operation is an AttributeError, a missing instruction a RuntimeError; builds differ in the rest.
    except Exception:
        return False
    return torch.equal(products, x) and torch.equal(added, x + x)
