"""Steps of fixed shapes as CUDA graphs: one launch in place of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

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
        with torch.cuda.graph(graph):
            result = self.function(*key)
        return graph, result
