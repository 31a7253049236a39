"""What a command runs on: devices, processes, machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy


@dataclass(frozen=True)
class Hardware:
    """What a command runs on.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Processes on each machine; ``auto`` for one on a CPU, all GPUs otherwise.
        num_nodes: Machines; for more than one, torchrun or SLURM starts the processes.
        precision: As Lightning names them (``32-true``, ``bf16-mixed``, …).
    """

    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("accelerator: no GPU is to be found here: use trainer=cpu")
        if (self.devices != "auto" and self.devices < 1) or self.num_nodes < 1:
            raise ValueError(f"devices and num_nodes are at least 1, got {self.devices} and {self.num_nodes}")

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        gpu = self.accelerator != "cpu" and torch.cuda.is_available()
        return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")

    @property
    def processes(self) -> int:
        """Processes on this machine."""
        if self.devices != "auto":
            return self.devices
        return max(1, torch.cuda.device_count()) if self.device.type == "cuda" else 1

    @property
    def strategy(self) -> str | Strategy:
        """How Lightning spreads a training over the processes."""
        if self.processes * self.num_nodes == 1:
            return "auto"
        # Codebooks and their statistics are kept equal by the quantizers; a broadcast of rank 0's would drop the
        # others'.
        return DDPStrategy(broadcast_buffers=False)
