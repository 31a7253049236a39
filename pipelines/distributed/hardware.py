"""What a command runs on: devices, processes, machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from pipelines.distributed.devices import find_device, has_bfloat16
from pipelines.distributed.environment import started_elsewhere
from stage1_vqvae.devices import widest_float

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]


@dataclass(frozen=True)
class Hardware:
    """What a command runs on.

    Attributes:
        accelerator: ``cpu``, ``gpu`` for any accelerator (CUDA, ROCm, MPS, XPU), torch's name of one, or ``auto`` for
            the accelerator that is there, else the CPU.
        devices: Processes on each machine; ``auto`` for one on a CPU, all accelerators otherwise.
        num_nodes: Machines; for more than one, torchrun or SLURM starts the processes.
        precision: Of training, as Lightning names them; ``auto`` for ``bf16-mixed`` on an accelerator that has
            bfloat16, else ``32-true``.
        strategy: What several processes share of a prior in training: ``ddp`` copies it to each, ``fsdp`` gives each a
            shard (:class:`~pipelines.distributed.fsdp.ShardedPriorTraining`). Everything else is copied either way.
        tf32: Whether float32 products of CUDA GPUs are computed in TensorFloat-32: faster, with 10 bits of mantissa.
        channels_last: Whether stage one trains in the channels-last memory format.
        compile: Whether training steps are compiled by ``torch.compile``.

    Raises:
        ValueError: If there is no such device here, or the settings do not fit each other.
    """

    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    precision: Precision | Literal["auto"] = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if (self.devices != "auto" and self.devices < 1) or self.num_nodes < 1:
            raise ValueError(f"devices and num_nodes are at least 1, got {self.devices} and {self.num_nodes}")
        try:
            found = find_device(self.accelerator)
        except ValueError as error:
            raise ValueError(f"accelerator={self.accelerator}: {error}; use hardware=auto or hardware=cpu") from error
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError("precision: hardware=fsdp takes 32-true, bf16-mixed, bf16-true or 16-true, got 16-mixed")
        if self.precision == "64-true" and widest_float(found) != torch.float64:
            raise ValueError(f"precision=64-true: {found.type} has no float64: use 32-true, or hardware=cpu")
        if found.type == "cpu":
            if self.strategy == "fsdp" and self.accelerator != "cpu":
                raise ValueError("hardware=fsdp needs GPUs: use hardware=ddp")
            return
        there = torch.accelerator.device_count()
        if self.devices != "auto" and self.devices > there and not started_elsewhere():
            raise ValueError(f"devices={self.devices}: this machine has {there} ({found.type}): use devices=auto")

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return find_device(self.accelerator)

    @property
    def processes(self) -> int:
        """Processes on this machine."""
        if self.devices != "auto":
            return self.devices
        return torch.accelerator.device_count() if self.device.type != "cpu" else 1

    @property
    def ranks(self) -> int:
        """Processes on all machines."""
        return self.processes * self.num_nodes

    @property
    def training_precision(self) -> Precision:
        """The precision of training on this machine."""
        if self.precision != "auto":
            return self.precision
        kind = self.device.type
        return "bf16-mixed" if kind != "cpu" and has_bfloat16(kind) else "32-true"

    @property
    def sharded(self) -> bool:
        """Whether each process holds a shard of a prior in training."""
        return self.strategy == "fsdp" and self.ranks > 1
