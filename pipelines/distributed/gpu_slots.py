"""Jobs that run at once on a machine with several GPUs spread over them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch

from pipelines.distributed.environment import started_elsewhere
from pipelines.distributed.hardware import Hardware
from pipelines.distributed.locks import try_lock


@contextmanager
def gpu_slot(hardware: Hardware) -> Iterator[None]:
    """Give a command that computes on one GPU, of several that it sees, the least used one for the block."""
    gpus = visible_gpus()
    one = hardware.device.type == "cuda" and hardware.processes == 1 and not started_elsewhere()
    if not one or len(gpus) < 2:
        yield
        return
    with free_slot(Path(tempfile.gettempdir()) / f"vqvae-prior-{os.getuid()}", gpus) as index:
        before = torch.cuda.current_device()
        torch.cuda.set_device(index)  # not by the environment, which a process that has used a GPU no longer heeds
        try:
            yield
        finally:
            torch.cuda.set_device(before)


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process sees, the same in every process of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:found] if named else [str(index) for index in range(found)]


@contextmanager
def free_slot(folder: Path, gpus: Sequence[str]) -> Iterator[int]:
    """Hold one of the GPUs that the fewest jobs hold; gives its index in ``gpus``.

    Args:
        folder: For the locks, the same for all jobs on this machine.
        gpus: Names of the GPUs.
    """
    for round_number in count():  # a GPU gets a second job only when every GPU has one
        for index, name in enumerate(gpus):
            with try_lock(folder / f"gpu-{name}-{round_number}.lock") as mine:
                if mine:
                    yield index
                    return
