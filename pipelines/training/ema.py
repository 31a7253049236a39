"""The moving average of weights that is validated, saved and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from pipelines.training.nonfinite import SkipNonFinite


class AveragedWeights(Callback):
    """Keeps an exponential moving average of the parameters; validations and checkpoints use it.

    After n updates the decay is ``(1 + n) / (10 + n)`` as long as that is lower, so that the average of a short
    training is not its random start. Buffers, codebooks among them, are not averaged. A skipped step is no update.

    Parameters whose names begin with one of the module's ``not_averaged`` are left out.

    During a validation of a training the module holds the average, and the weights are kept here. A checkpoint holds
    the average as ``state_dict`` and the weights as ``current_model_state``, also if it is written during a
    validation.

    Args:
        decay: Of the average, in (0, 1).
        skips: Tells which steps were skipped.
    """

    def __init__(self, decay: float, skips: SkipNonFinite) -> None:
        self.decay = decay
        self._skips = skips
        self._average: list[Tensor] = []  # of each parameter; the weights themselves during a validation
        self._swapped = False
        self._updates = 0
        self._updated_at = 0  # the step of the last update
        self._loaded: dict[str, Tensor] = {}  # the average of the checkpoint that the training goes on from

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the checkpoint's average, or with the weights."""
        self._average = [parameter.detach().clone() for _, parameter in averaged(pl_module)]
        for (name, _), average in zip(averaged(pl_module), self._average, strict=True):
            if name in self._loaded:
                average.copy_(self._loaded[name])
        self._loaded = {}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average, if this batch ended an optimiser step that was not skipped."""
        if trainer.global_step == self._updated_at or self._skips.in_a_row > 0:
            return
        weights = [parameter.detach() for _, parameter in averaged(pl_module)]
        if self._updates == 0:
            torch._foreach_copy_(self._average, weights)
        else:
            torch._foreach_lerp_(self._average, weights, self._weight(self._updates))
        self._updates += 1
        self._updated_at = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._swap(pl_module)
        self._average = []

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last update."""
        return {"latest_update_step": self._updated_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the step of the last update."""
        self._updated_at = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the average as ``state_dict``, the weights as ``current_model_state``."""
        kept = {id(parameter): kept for (_, parameter), kept in zip(averaged(pl_module), self._average, strict=True)}
        other = dict(checkpoint["state_dict"])
        for name, parameter in pl_module.named_parameters(remove_duplicate=False):
            other[name] = kept.get(id(parameter), other[name])
        average, weights = (checkpoint["state_dict"], other) if self._swapped else (other, checkpoint["state_dict"])
        checkpoint["state_dict"], checkpoint["current_model_state"] = average, weights
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take average and weights from a checkpoint."""
        pl_module.load_state_dict(checkpoint["current_model_state"])
        self._loaded = {name: checkpoint["state_dict"][name] for name, _ in pl_module.named_parameters()}
        self._updates = int(checkpoint["averaging_state"]["n_averaged"])

    def _weight(self, updates: int) -> float:
        """Weight of the newest weights after so many updates, in float32."""
        rising = np.float32(1 + updates) / np.float32(10 + updates)
        return float(np.float32(1) - min(rising, np.float32(self.decay)))

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        weights = [parameter.detach() for _, parameter in averaged(pl_module)]
        before = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, self._average)
        torch._foreach_copy_(self._average, before)
        self._swapped = not self._swapped


def averaged(module: LightningModule) -> list[tuple[str, nn.Parameter]]:
    """The parameters of which an average is kept, by name."""
    left_out = getattr(module, "not_averaged", ())
    return [(name, parameter) for name, parameter in module.named_parameters() if not name.startswith(tuple(left_out))]
