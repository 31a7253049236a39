"""The progress bar of a training."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

REFRESH = 0.5
"""Seconds between two pictures of the bar."""


class Progress(RichProgressBar):
    """Lightning's rich bar over steps, without the epoch, which is the whole training here.

    Args:
        title: What the bar is called.
    """

    def __init__(self, title: str) -> None:
        super().__init__(refresh_rate=round(1 / REFRESH), leave=True)
        self.title = title
        self._refreshed = 0.0
        self._values: dict[str, Any] = {}
        self._valued_at = -1  # the step whose metrics the bar shows

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, not more often than it is looked at."""
        if time.monotonic() - self._refreshed < REFRESH and batch_idx + 1 != self.total_train_batches:
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._refreshed = time.monotonic()

    def _get_train_description(self, current_epoch: int) -> str:
        return self.title

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics to show: ``loss`` of training, ``val psnr`` of the last validation.

        They are read from the device once after each step that logs, not at every move of the bar.
        """
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logged_at = trainer.global_step // every * every
        if logged_at != self._valued_at or trainer.validating:
            self._valued_at = logged_at
            self._values = {
                name.removeprefix("train/").replace("validation/", "val "): f"{value:.4g}"
                for name, value in super().get_metrics(trainer, pl_module).items()
                if isinstance(value, float)
            }
        return self._values
