"""Two processes that talk over gloo, for tests of what holds across ranks."""

import torch
import torch.multiprocessing as mp

from pipelines.distributed.launch import run_on_all


def on_two_ranks(task, *arguments):
    """What ``task(rank, *arguments)``, a function of a module, returns on each of two ranks."""
    results = mp.get_context("spawn").SimpleQueue()
    run_on_all(_collect, results, task, arguments, processes=2)
    found = dict(results.get() for _ in range(2))
    return [found[0], found[1]]


def _collect(results, task, arguments):
    from pipelines.distributed.collectives import barrier, rank

    torch.manual_seed(rank())
    result = task(rank(), *arguments)
    # Plain numpy: tensors would be shared memory of a process that is about to end.
    results.put((rank(), _pack(result)))
    barrier()


def _pack(value):
    if isinstance(value, torch.Tensor):
        return value.detach().clone().numpy()
    if isinstance(value, dict):
        return {key: _pack(item) for key, item in value.items()}
    return value
