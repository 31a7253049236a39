"""What all benchmarks time with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import torch


def once(run: Callable[[], object]) -> float:
    """Seconds of a run."""
    start = perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - start


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Shortest time of several runs, after one that does not count: what else the machine does only adds to it."""
    run()
    return min(once(run) for _ in range(repeats))


def fastest_in_turns(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Shortest time of each of several runs, taken in turns, so that a busy machine is busy for all."""
    turns = [[once(run) for run in runs] for _ in range(repeats)]
    return [min(times) for times in zip(*turns, strict=True)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread for the duration."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bytes_per_second(device: torch.device) -> float:
    """How fast memory is read, measured by a sum over 2 GiB."""
    much = torch.zeros(2**29, device=device)
    return much.nbytes / seconds(lambda: much.sum())
