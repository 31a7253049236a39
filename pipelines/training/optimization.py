"""Optimiser and learning-rate schedule, the same for both stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from math import cos, pi
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Optimization:
    """AdamW with warm-up and a schedule over all steps.

    Attributes:
        learning_rate: At its highest.
        warmup_steps: Optimiser steps of linear rise.
        schedule: ``cosine`` falls to a hundredth at the last step; ``constant`` stays.
        betas: Adam's moving averages.
        weight_decay: Of matrices; vectors and scalars (biases, norms) are not decayed.

    Raises:
        ValueError: If a setting is out of range.
    """

    learning_rate: float
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is above 0, got {self.learning_rate}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule is constant or cosine, got {self.schedule!r}")
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise ValueError("warmup_steps and weight_decay are at least 0")

    def __call__(self, module: nn.Module, max_steps: int) -> dict[str, Any]:
        """What ``LightningModule.configure_optimizers`` returns for the parameters of ``module``."""
        optimizer = self.optimizer(module)
        factor = partial(self.factor, max_steps=max_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def check(self, module: nn.Module) -> None:
        """Raise ValueError if a module cannot be trained so; any can by AdamW."""

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a module's parameters."""
        return self.adamw(module.parameters())

    def adamw(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """AdamW of some parameters, by one kernel where the device has it."""
        groups = self._groups(parameters)
        fused = has_fused_adamw(groups[0]["params"][0].device if groups[0]["params"] else torch.device("cpu"))
        # Said of the groups, not of the optimiser: a gradient scaler leaves unscaling to an optimiser that is fused.
        groups = [{**group, "fused": fused} for group in groups]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(self.betas[0], self.betas[1]))
        optimizer.register_load_state_dict_pre_hook(partial(_on_this_device, fused))
        return optimizer

    def factor(self, step: int, max_steps: int) -> float:
        """Learning rate of a step (from 0) over ``learning_rate``."""
        rise = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        if self.schedule == "constant":
            return rise
        done = min(step / max(max_steps, 1), 1.0)
        return rise * (0.01 + 0.99 * (1 + cos(pi * done)) / 2)

    def _groups(self, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]


@cache
def has_fused_adamw(device: torch.device) -> bool:
    """Whether one kernel can update all parameters on a device; found out by a step with it."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        torch.optim.AdamW([parameter], fused=True).step()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _on_this_device(fused: bool, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A saved state with the kernel of this device in place of that of the device it was saved on."""
    groups = [{**group, "fused": fused} if "fused" in group else group for group in state["param_groups"]]
    return {**state, "param_groups": groups}
