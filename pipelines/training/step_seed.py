"""Random numbers inside a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seeds torch before every batch, so that dropout and revived codes are a function of (seed, batch, rank) alone.

    A training that goes on after a kill draws the same numbers without a generator's state in its checkpoint.

    Args:
        seed: Of the training, at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the CPU's generator and that of the training device."""
        entropy = np.random.SeedSequence((self.seed, batch_idx, trainer.global_rank))
        number = int(entropy.generate_state(1, np.uint64)[0] >> 1)
        # torch.manual_seed seeds these two too, and notes a stack trace for every kind of device that is not there.
        torch.default_generator.manual_seed(number)
        if pl_module.device.type != "cpu":
            torch.get_device_module(pl_module.device).manual_seed(number)
