"""Two processes that talk over gloo, for tests of what holds across ranks."""

import pickle
import tempfile
from pathlib import Path

import torch

from pipelines.distributed.launch import run_on_all


def on_two_ranks(task, *arguments):
    """What ``task(rank, *arguments)``, a function of a module, returns on each of two ranks."""
    with tempfile.TemporaryDirectory() as folder:
        run_on_all(_collect, folder, task, arguments, processes=2)
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(2)]


def _collect(folder, task, arguments):
    from pipelines.distributed.collectives import barrier, rank

    torch.manual_seed(rank())
    result = task(rank(), *arguments)
    # Plain numpy: tensors would be shared memory of a process that is about to end. A file: a pipe holds little.
    (Path(folder) / str(rank())).write_bytes(pickle.dumps(_pack(result)))
    barrier()


def _pack(value):
    if isinstance(value, torch.Tensor):
        return value.detach().clone().numpy()
    if isinstance(value, dict):
        return {key: _pack(item) for key, item in value.items()}
    return value
