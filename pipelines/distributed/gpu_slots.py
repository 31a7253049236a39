"""Jobs that run at the same time on a machine with several GPUs are spread over them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch

from pipelines.distributed.environment import started_elsewhere, temporary_folder
from pipelines.distributed.hardware import Hardware
from pipelines.distributed.locks import try_lock

VISIBLE = {"cuda": ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), "xpu": ("ZE_AFFINITY_MASK",)}
"""Environment variables that name the GPUs a process sees, by kind."""


@contextmanager
def gpu_slot(hardware: Hardware) -> Iterator[None]:
    """Give a command that computes on one of several GPUs the least used one for the block.

    Does nothing for a command on the CPU, on several processes, or on a machine with one GPU.
    """
    device = hardware.device
    one = device.type != "cpu" and hardware.processes == 1 and not started_elsewhere()
    gpus = visible_gpus(device.type) if one else []
    if len(gpus) < 2:
        yield
        return
    with free_slot(temporary_folder(), gpus) as index:
        before = torch.accelerator.current_device_index()
        torch.accelerator.set_device_index(index)  # the environment has no effect once a process has used a GPU
        try:
            yield
        finally:
            torch.accelerator.set_device_index(before)


def visible_gpus(device_type: str) -> list[str]:
    """Names of the GPUs that this process sees; the same GPU has the same name in every process of the machine."""
    found = torch.accelerator.device_count()
    for variable in VISIBLE.get(device_type, ()):
        if named := os.environ.get(variable):
            return [name.strip() for name in named.split(",")][:found]
    return [str(index) for index in range(found)]


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
