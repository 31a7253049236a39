"""What a command runs on: devices, processes, machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]


@dataclass(frozen=True)
class Hardware:
    """What a command runs on.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Processes on each machine; ``auto`` for one on a CPU, all GPUs otherwise.
        num_nodes: Machines; for more than one, torchrun or SLURM starts the processes.
        precision: As Lightning names them (``32-true``, ``bf16-mixed``, …).
        strategy: What several processes share of a prior in training: ``ddp`` copies it to each, ``fsdp`` gives each a
            part (:class:`~pipelines.distributed.fsdp.ShardedPriorTraining`). Everything else is copied either way.
    """

    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    precision: Precision = "32-true"
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def __post_init__(self) -> None:
        if self.strategy == "fsdp" and self.accelerator != "cpu" and not torch.cuda.is_available():
            raise ValueError("hardware=fsdp needs GPUs: use hardware=ddp")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError("precision: hardware=fsdp takes 32-true, bf16-mixed, bf16-true or 16-true, got 16-mixed")
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("accelerator: no GPU is to be found here: use hardware=cpu")
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
    def lightning_devices(self) -> int | list[int]:
        """What Lightning is told: the number of processes, or the GPU of the only one, which a sweep has chosen."""
        if self.device.type == "cuda" and self.processes * self.num_nodes == 1:
            return [torch.cuda.current_device()]
        return self.processes

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of a prior in training."""
        return self.strategy == "fsdp" and self.processes * self.num_nodes > 1

    def lightning_strategy(self, sharded: bool) -> str | Strategy:
        """How Lightning spreads a training over the processes; ``sharded`` if its module spreads its parameters."""
        ranks = self.processes * self.num_nodes
        if ranks == 1:
            return "auto"
        if sharded:
            return ModelParallelStrategy(ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)
        # Codebooks and their statistics are kept equal by the quantizers; a broadcast of rank 0's would drop the
        # others'.
        return DDPStrategy(broadcast_buffers=False)
