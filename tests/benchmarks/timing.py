"""What all benchmarks time with."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Shortest time of several runs, after one that does not count: what else the machine does only adds to it."""
    run()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return min(times)


def bytes_per_second(device: torch.device) -> float:
    """How fast memory is read, measured by a sum over 2 GiB."""
    much = torch.zeros(2**29, device=device)
    return much.nbytes / seconds(lambda: much.sum())
