"""Random numbers inside a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Randomness within a step (dropout, revived codes) as a function of (seed, step, rank): nothing to resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed torch for this batch."""
        entropy = np.random.SeedSequence((self.seed, batch_idx, trainer.global_rank))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
