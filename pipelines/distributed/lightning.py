"""Hardware as Lightning's Trainer takes it."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy

from pipelines.distributed.hardware import Hardware

KNOWN = ("cpu", "cuda", "mps")
"""Devices that Lightning has an accelerator of its own for."""


class OtherAccelerator(Accelerator):
    """An accelerator that Lightning has no class for, such as XPU, by means of ``torch.accelerator``."""

    def setup_device(self, device: torch.device) -> None:
        """Make a device the current one."""
        torch.accelerator.set_device_index(device.index or 0)

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        """No statistics."""
        return {}

    def teardown(self) -> None:
        """Free cached memory."""
        torch.accelerator.empty_cache()

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        """Indices of the devices that a number or a list of indices asks for."""
        return list(range(devices)) if isinstance(devices, int) else list(devices)

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """The devices of some indices."""
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        return [torch.device(kind.type, index) for index in OtherAccelerator.parse_devices(devices)]

    @staticmethod
    def auto_device_count() -> int:
        """Number of devices of this machine."""
        return torch.accelerator.device_count()

    @staticmethod
    def is_available() -> bool:
        """Whether there is one."""
        return torch.accelerator.is_available()

    @staticmethod
    def name() -> str:
        """torch's name of it."""
        kind = torch.accelerator.current_accelerator()
        return kind.type if kind else "other"


def trainer_options(hardware: Hardware, sharded: bool, idle: bool = False) -> dict[str, Any]:
    """Arguments of Lightning's Trainer: accelerator, devices, machines, precision and strategy.

    Args:
        hardware: What the command runs on.
        sharded: Whether the module shards its parameters over the processes.
        idle: Whether there are steps in which some parameters have no gradient.

    Returns:
        Arguments by name; among them ``plugins``, a list to which others may be added.
    """
    device, precision = hardware.device, hardware.training_precision
    options: dict[str, Any] = {
        "accelerator": device.type if device.type in KNOWN else OtherAccelerator(),
        "devices": _devices(hardware),
        "num_nodes": hardware.num_nodes,
        "precision": precision,
        "strategy": _strategy(hardware, sharded, idle),
        "plugins": [],
    }
    if precision in ("bf16-mixed", "16-mixed") and device.type not in ("cpu", "cuda"):
        # By the precision's name alone Lightning casts for CUDA, which on other devices does nothing.
        options |= {"precision": None, "plugins": [MixedPrecision(precision, device.type)]}
    return options


def _devices(hardware: Hardware) -> int | list[int]:
    """The number of processes, or the index of the only one's device, which a sweep has chosen."""
    if hardware.device.type in ("cpu", "mps") or hardware.ranks > 1:
        return hardware.processes
    return [hardware.device.index]


def _strategy(hardware: Hardware, sharded: bool, idle: bool) -> str | Strategy:
    if hardware.ranks == 1:
        if hardware.device.type in KNOWN:
            return "auto"
        return SingleDeviceStrategy(hardware.device)
    if sharded:
        return ModelParallelStrategy(hardware.ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)
    # The quantizers keep codebooks and their statistics equal; a broadcast of rank 0's would drop the others'.
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=idle)
