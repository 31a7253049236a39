"""The moving average of weights that is validated, saved and kept."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from pipelines.training.nonfinite import SkipNonFinite


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights, kept beside them, validated and saved in their place.

    After n updates the decay is ``(1 + n) / (10 + n)`` as long as that is lower, so that the average of a short
    training is not its random start. Buffers (codebooks among them) are copied as they are, never averaged. A skipped
    step is no update. Average and weights are told apart in every checkpoint, also in one written while a validation
    has them swapped.

    Args:
        decay: Of the average.
        skips: Tells which steps were skipped.
    """

    def __init__(self, decay: float, skips: SkipNonFinite) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            weight = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
            return averaged.lerp(current, weight.to(averaged.device, averaged.dtype))

        super().__init__(use_buffers=False, avg_fn=average)
        self._skips = skips
        self._swapped = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the weights have just changed."""
        return step_idx is not None and self._skips.in_a_row == 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Average as ``state_dict``, weights as ``current_model_state``."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped
