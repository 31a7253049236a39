"""Steps of fixed shapes as CUDA graphs: one launch in place of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn

BUCKET = 64
"""Attention goes over a multiple of so many slots, those to come masked: one recording for each multiple."""

WARM_UP = 3
"""Runs before the recording, in which libraries allocate their workspaces and choose their kernels."""


class CUDAGraphs:
    """A function that is recorded at the first call with some arguments and replayed at every later one.

    The function reads and writes the same memory whenever its arguments are the same, allocates only its result and
    what is gone at its end, and may be repeated: the first call runs it several times. What it reads may change
    between calls; where that lies may not.

    Args:
        function: Takes what tells its recordings apart, and returns a tensor on a GPU.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.recorded: dict[tuple[Hashable, ...], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def __call__(self, *key: Hashable) -> Tensor:
        """What the function returns."""
        if key not in self.recorded:
            self.recorded[key] = self._record(key)
        graph, result = self.recorded[key]
        graph.replay()
        return result.clone()  # the next replay writes there again

    def _record(self, key: tuple[Hashable, ...]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(*key)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads ask of CUDA meanwhile, NCCL's watchdog for one, is none of the recording's business.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self.function(*key)
        return graph, result


Kept = TypeVar("Kept")

_free: WeakKeyDictionary[nn.Module, dict[Hashable, list[Any]]] = WeakKeyDictionary()


def on_loan(
    user: object, owner: nn.Module, key: Hashable, make: Callable[[], Kept], renew: Callable[[Kept], None]
) -> Kept:
    """A thing with recordings that is nobody else's as long as ``user`` lives.

    After that it is kept for the next one, since to record takes as long as many steps.

    Args:
        user: Who gets it.
        owner: The module that it belongs to; it lives no longer.
        key: What tells the owner's things apart.
        make: Makes one, if none is free.
        renew: Prepares one that is free.
    """
    free = _free.setdefault(owner, {}).setdefault(key, [])
    if free:
        kept: Kept = free.pop()
        renew(kept)
    else:
        kept = make()
    finalize(user, free.append, kept)
    return kept
