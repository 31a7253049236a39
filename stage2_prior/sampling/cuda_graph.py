"""Steps of fixed shapes as CUDA graphs: one launch in place of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn

BUCKET = 64
"""Attention goes over a multiple of so many positions, the later ones masked: one recording for each multiple."""

WARM_UP = 3
"""Runs before the recording, in which libraries allocate their workspaces and choose their kernels."""


class Graph(Protocol):
    """A recording."""

    def replay(self) -> None:
        """Do once more what was recorded, on the same memory."""
        ...


def records(device: torch.device) -> bool:
    """Whether steps on a device are recorded and replayed."""
    return device.type == "cuda"


def new_pool() -> Any:
    """A memory pool that recordings share; they are replayed one at a time, and what they return is copied at once."""
    return torch.cuda.graph_pool_handle()


def record(function: Callable[[], Tensor], pool: Any) -> tuple[Graph, Tensor]:
    """A recording of a function, and the tensor that a replay writes its result to."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Calls of other threads meanwhile, those of NCCL's watchdog for one, do not break the recording.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = function()
    return graph, result


class CUDAGraphs:
    """Recordings of one function by its arguments: made at the first call with some, replayed at every later one.

    The function reads and writes the same memory whenever its arguments are the same, allocates only its result and
    temporary tensors, and may be repeated: the first call runs it several times. The content of what it reads may
    change between calls, its address may not.

    Args:
        pool: Memory for the recordings, see :func:`new_pool`.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.recorded: dict[tuple[Hashable, ...], tuple[Graph, Tensor]] = {}

    def __call__(self, function: Callable[..., Tensor], *key: Hashable) -> Tensor:
        """What ``function(*key)`` returns, on a GPU."""
        if key not in self.recorded:
            self.recorded[key] = record(lambda: function(*key), self.pool)
        graph, result = self.recorded[key]
        graph.replay()
        return result.clone()  # the next replay writes there again


class Copyable(Protocol):
    """Weights that can be renewed where they are."""

    def tensors(self) -> Iterator[Tensor]:
        """All of them, always in the same order."""
        ...


Weights = TypeVar("Weights", bound=Copyable)
Step = TypeVar("Step")


class Recordings:
    """What is kept of a module for replays: a memory pool, one copy of its weights, and steps with their recordings.

    A step is used by one incremental form at a time and kept for the next one, since a recording takes as long as many
    steps. Steps of one key are kept, those that were used last.
    """

    def __init__(self) -> None:
        self.pool = new_pool()
        self.weights: Any = None
        self.free: dict[Hashable, list[Any]] = {}

    @classmethod
    def of(cls, owner: nn.Module) -> Self:
        """Those of a module, which live no longer than it does and until :func:`release`."""
        if owner not in _recordings:
            _recordings[owner] = cls()
        found = _recordings[owner]
        assert isinstance(found, cls)
        return found

    @torch.inference_mode()
    def static(self, weights: Weights) -> Weights:
        """The same values at the addresses that recordings read; steps in use then compute with them too."""
        mine, new = [list(each.tensors()) if each is not None else [] for each in (self.weights, weights)]
        if [(x.shape, x.dtype, x.device) for x in mine] != [(x.shape, x.dtype, x.device) for x in new]:
            self.weights = weights
            self.free = {}  # their recordings read other memory
        elif self.weights is not weights:
            for old, value in zip(mine, new, strict=True):
                old.copy_(value)
        kept: Weights = self.weights
        return kept

    def borrow(self, user: object, key: Hashable, make: Callable[[], Step], renew: Callable[[Step], None]) -> Step:
        """A step that nobody else has as long as ``user`` lives.

        Args:
            user: Who gets it.
            key: Tells steps apart that cannot stand for one another.
            make: Makes one, if none is free.
            renew: Prepares one that is free.
        """
        self.free = {key: self.free.get(key, [])}
        free = self.free[key]
        if free:
            step: Step = free.pop()
            renew(step)
        else:
            step = make()
        finalize(user, free.append, step)
        return step


_recordings: WeakKeyDictionary[nn.Module, Recordings] = WeakKeyDictionary()


def release(module: nn.Module) -> None:
    """Free the memory that sampling keeps on a GPU for a module and its parts; the next sampling records anew."""
    for part in module.modules():
        _recordings.pop(part, None)
