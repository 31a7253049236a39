"""The progress bar of a training, for a terminal and for the cell of a notebook."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

from pipelines.cli.kernel import REFRESH, Display, in_kernel


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
            self._values = named(super().get_metrics(trainer, pl_module))
        return self._values


def named(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Lightning's metrics as a bar shows them: ``loss`` of training, ``val psnr`` of the last validation."""
    return {
        name.removeprefix("train/").replace("validation/", "val "): f"{value:.4g}"
        for name, value in metrics.items()
        if isinstance(value, float)
    }


class CellProgress(ProgressBar):
    """A line in the cell of a notebook: step, speed, time left, metrics.

    Args:
        title: What the line begins with.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._display = Display()
        self._started, self._first, self._refreshed = 0.0, 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the training goes on from."""
        self._started, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the line again, not more often than it is looked at."""
        if time.monotonic() - self._refreshed >= REFRESH:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the line of the last step."""
        self._show(trainer, pl_module)

    def disable(self) -> None:
        """Show nothing: another process does."""
        self._display = Display(hidden=True)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refreshed = time.monotonic()
        step, total = trainer.global_step, trainer.max_steps
        speed = (step - self._first) / max(self._refreshed - self._started, 1e-9)
        left = timedelta(seconds=round((total - step) / speed)) if speed else "?"
        metrics = "  ".join(f"{name} {value}" for name, value in named(self.get_metrics(trainer, pl_module)).items())
        self._display.show(f"{self.title}  {step}/{total}  {speed:.3g} steps/s  {left} left  {metrics}".rstrip())


def training_progress(title: str) -> ProgressBar:
    """The bar of a training in this process."""
    return CellProgress(title) if in_kernel() else Progress(title)
