"""Losses and gradients that are not finite: their step is skipped, and nothing that is not finite is saved."""

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
from pipelines.training.deferred_read import DeferredRead
from pipelines.training.muon import MuonAdamW
from pipelines.training.preemption import StopRequest


class SkipNonFinite(Callback):
    """Skips an optimiser step whose loss or gradient is not finite on any rank.

    A skipped step leaves the weights and the optimiser's state as they are and has no gradients at its end, on all
    ranks; by that modules see that it was skipped
    (:class:`~stage1_vqvae.lightning_module.TokenizerTraining` then leaves the codebook too). The batches of the step
    are passed over. A gradient whose squared norm overflows is not finite either: its second moments would not be.

    A fused AdamW, and Muon beside one, is told on the device, by the ``found_inf`` of torch's gradient scaler, and the
    host reads the decision while the device updates the weights. For any other optimiser it decides before the step.

    Ranks talk once a step: whether this process was asked to stop goes along.

    Args:
        limit: Skipped steps in a row that end the training.
        stop: Learns whether any rank was asked to stop.
    """

    def __init__(self, limit: int, stop: StopRequest) -> None:
        self.limit = limit
        self.skipped = 0
        self.in_a_row = 0
        self._stop = stop
        self._precision = ""
        self._step = 0  # the step that is decided on, from 1
        self._loss: Tensor | None = None  # of the batches of the step so far, summed
        self._decision: DeferredRead | None = None  # of the step that the optimiser is making

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the optimiser's steps."""
        self._precision = str(trainer.precision)
        trainer.optimizers[0].register_step_post_hook(self._after_step)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Find out whether anything is not finite.

        Raises:
            ValueError: If that was so for too many steps in a row, and the optimiser is not fused.
        """
        assert self._loss is not None
        loss, self._loss = self._loss, None
        self._step = trainer.global_step + 1
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients)).float()
        nonfinite = (~torch.isfinite(loss.float() + norm.square())).float()
        flags = collectives.max_over_ranks(torch.stack([nonfinite, torch.full_like(norm, self._stop.requested)]))
        self._decision = DeferredRead(torch.cat([flags, torch.stack([loss.float(), norm])]))
        sharded = any(isinstance(gradient, DTensor) for gradient in gradients)
        if trainer.scaler is None and not sharded and takes_found_inf(optimizer):
            optimizer.found_inf = flags[0]  # type: ignore[attr-defined]
        else:
            self._decide(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log how many steps were skipped so far, after one that was."""
        if self.in_a_row:
            pl_module.log("train/skipped", float(self.skipped))

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._decision is not None:
            del optimizer.found_inf  # type: ignore[attr-defined]
            self._decide(optimizer)

    def _decide(self, optimizer: Optimizer) -> None:
        """Read the decision; drop the gradients of a step that is skipped."""
        assert self._decision is not None
        nonfinite, stop, loss, norm = self._decision.wait()
        self._decision = None
        self._stop.agree(bool(stop))
        if not nonfinite:
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.limit:
            raise ValueError(
                f"step {self._step}: the loss ({loss:g}) or its gradient (norm {norm:g}) "
                f"was not finite for {self.in_a_row} steps in a row: "
                f"{precision_advice(self._precision)}lower the learning rate, set gradient_clip_val, "
                "or look for what the data holds"
            )


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Whether an optimiser leaves a step out by itself where its ``found_inf`` says so."""
    if isinstance(optimizer, MuonAdamW):
        return optimizer.takes_found_inf
    return all(group.get("fused") for group in optimizer.param_groups)


RANGES = {"16-true": "weights", "16-mixed": "gradients", "bf16-true": "weights"}
"""Precisions in which something that float32 holds may be lost, and what."""


def precision_advice(precision: str) -> str:
    """What to change first where the precision may be the reason, as the beginning of a list; empty where it is not.

    The same command with another precision goes on from the last checkpoint: hardware makes no other product.

    Args:
        precision: Of the training, as Lightning names it.
    """
    if precision not in RANGES:
        return ""
    lost = "numbers above 65,504 are infinite and those below 0.00000006 zero"
    if precision == "bf16-true":
        lost = "numbers have 8 bits of precision"
    return (
        f"with hardware.precision={precision} {lost}, {RANGES[precision]} among them: give the same command with "
        "hardware.precision=bf16-mixed, or with 32-true, which every device has; or "
    )


def refuse_non_finite(module: nn.Module, precision: str = "") -> None:
    """Check what is about to be saved, on all ranks.

    Args:
        module: Whose weights and buffers are saved.
        precision: Of the training, for advice.

    Raises:
        ValueError: If a weight is not finite, or a buffer holds NaN, on any rank.
    """
    fault = next(faults(module), None)
    if collectives.on_any(fault is not None):
        raise ValueError(
            f"{fault or 'a part on another rank is not finite'}: nothing is saved, earlier checkpoints are intact: "
            f"{precision_advice(precision)}lower the learning rate"
        )


def faults(module: nn.Module) -> Iterator[str]:
    """Say what is not finite in a module's parameters and buffers; of a sharded parameter in this rank's part."""
    for name, parameter in module.named_parameters():
        part = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if not torch.isfinite(part).all():
            yield f"{name} is not finite"
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point() and torch.isnan(buffer).any():  # masks may well be infinite
            yield f"{name} holds NaN"
