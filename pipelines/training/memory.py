"""The memory that a training needs whatever its batch, asked for before it starts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def check_memory(title: str, module: nn.Module, device: torch.device, copies: int) -> None:
    """Refuse a training for which the device has not the memory.

    Args:
        title: Of the training.
        module: To be trained, on the CPU.
        device: Where it is to be trained.
        copies: Tensors of the size of each trained weight beside the weights: gradients, Adam's moments, an average.

    Raises:
        ValueError: If they do not fit what is free, where that is known.
    """
    trained = sum(each.nbytes for each in module.parameters() if each.requires_grad)
    weights = sum(each.nbytes for each in module.state_dict().values())
    needed = copies * trained + (weights if device.type != "cpu" else 0)  # on the CPU the weights are there already
    free = free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"{title}: weights, gradients and the optimiser's state take {needed / 2**30:.1f} GiB of memory beside the "
            f"batch, {free / 2**30:.1f} GiB are free: train a smaller model"
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes of memory that can be had on a device; None where that cannot be asked."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:  # a container's limit
        limit = int((CGROUP / "memory.max").read_text())
        # Not memory.current, which counts cached files too, and those give way.
        used = int(dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())["anon"])
    except (OSError, KeyError, ValueError):
        return free
    return min(free, max(limit - used, 0))
