"""CUDA graphs on a CPU: operations are recorded with the memory that they read and write, and replayed on it.

What the real ones need and this cannot show: that every operation of a step may be captured at all.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from stage2_prior.sampling import cuda_graph
from stage2_prior.transformer import packed_linear


def address(value: Any) -> Any:
    """A tensor as a kernel sees it: memory, shape and strides, whatever becomes of the tensor itself."""
    return value.detach() if isinstance(value, Tensor) else value


class Recording(TorchDispatchMode):
    """Every operation inside, with the addresses of its inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, *(tree_map(address, part) for part in (args, kwargs or {}, result))))
        return result

    def replay(self) -> None:
        """Do the same operations once more, on the same memory."""
        for function, args, kwargs, results in self.calls:
            read = {value.untyped_storage().data_ptr() for value in tree_leaves((args, kwargs)) if is_memory(value)}
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if is_memory(old) and old.untyped_storage().data_ptr() not in read:  # views and results in place
                    old.copy_(new)


def is_memory(value: Any) -> bool:
    """Whether a value is a tensor with something in it."""
    return isinstance(value, Tensor) and value.numel() > 0


def emulate(monkeypatch: pytest.MonkeyPatch, bucket: int = 4) -> None:
    """Let steps be recorded and replayed on the CPU as they are on a GPU."""

    def record(function: Any, pool: Any) -> tuple[Recording, Tensor]:
        function()  # as a warm-up does
        with Recording() as recording:
            result = function()
        return recording, result

    monkeypatch.setattr(cuda_graph, "records", lambda device: True)
    monkeypatch.setattr(cuda_graph, "new_pool", object)
    monkeypatch.setattr(cuda_graph, "record", record)
    monkeypatch.setattr(cuda_graph, "BUCKET", bucket)
    monkeypatch.setattr(packed_linear, "has_packed_products", lambda dtype: False)  # a GPU packs nothing


def move(module: torch.nn.Module) -> None:
    """Give a module's parameters and buffers other memory, as ``module.to`` does; the old one holds NaN."""
    for value in (*module.parameters(), *module.buffers()):
        old = value.data
        value.data = old.clone()
        if old.is_floating_point():
            old.fill_(torch.nan)
