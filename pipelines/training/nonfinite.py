"""Losses and gradients that are not finite: their step does not happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pipelines.distributed import collectives
from pipelines.distributed.fsdp import full_tensor


class SkipNonFinite(Callback):
    """Skips an optimiser step whose loss or gradient is not finite on any rank.

    The gradients are dropped on all ranks, so that optimisers leave weights and their own state as they are; modules
    see it by that (:class:`~stage1_vqvae.lightning_module.TokenizerTraining` then leaves the codebook too). The batches
    of the step are passed over. A gradient whose squared norm overflows is not finite either: its second moments would
    not be.

    Args:
        limit: Skipped steps in a row that end the training.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self.in_a_row = 0
        self._loss: Tensor | None = None  # of the batches of the step so far, summed

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients if anything is not finite.

        Raises:
            ValueError: If that was so for too many steps in a row.
        """
        assert self._loss is not None
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients)).float()
        finite = bool(torch.isfinite(self._loss.float() + norm.square()))
        loss, self._loss = self._loss, None
        if not collectives.on_any(not finite):
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self.in_a_row += 1
        pl_module.log("train/skipped", float(self.skipped))
        if self.in_a_row >= self.limit:
            raise ValueError(
                f"step {trainer.global_step + 1}: the loss ({float(loss):g}) or its gradient (norm {float(norm):g}) "
                f"was not finite for {self.in_a_row} steps in a row: lower the learning rate, set gradient_clip_val, "
                "or look for what the data holds"
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def refuse_non_finite(module: nn.Module) -> None:
    """Check what is about to be saved, on all ranks.

    Raises:
        ValueError: If a weight is not finite, or a buffer holds NaN, on any rank.
    """
    fault = next(faults(module), None)
    if collectives.on_any(fault is not None):
        raise ValueError(
            f"{fault or 'a part on another rank is not finite'}: nothing is saved, earlier checkpoints are intact"
        )


def faults(module: nn.Module) -> Iterator[str]:
    """What is not finite in a module's parameters and buffers; of a sharded parameter in this rank's part."""
    for name, parameter in module.named_parameters():
        part = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if not torch.isfinite(part).all():
            yield f"{name} is not finite"
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point() and torch.isnan(buffer).any():  # masks may well be infinite
            yield f"{name} holds NaN"
