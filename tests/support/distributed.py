"""Two processes that talk over gloo, for tests of what holds across ranks."""

import functools
import pickle
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from pipelines.distributed import launch


def on_two_ranks(task, *arguments):
    """What ``task(rank, *arguments)``, a function of a module, returns on each of two ranks, which are forked."""
    with forking():
        return on_two_new_ranks(task, *arguments)


def on_two_new_ranks(task, *arguments):
    """The same on processes that import everything anew, as those of a command do: seconds later."""
    with tempfile.TemporaryDirectory() as folder:
        launch.run_on_all(_collect, folder, task, arguments, processes=2)
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(2)]


@contextmanager
def forking():
    """Processes that begin as copies of this one: sooner than those that import everything anew."""
    with pytest.MonkeyPatch.context() as patch:
        method = "spawn" if torch.cuda.is_available() else "fork"  # a copy could not use a GPU
        patch.setattr(launch, "spawn", functools.partial(start_processes, start_method=method))
        # A copy waits for ever for OpenMP's threads, if this process has begun some.
        patch.setattr(launch, "threads_each", lambda processes: 1)
        yield


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
