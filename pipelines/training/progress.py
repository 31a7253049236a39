"""The progress of a training."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar

from pipelines.cli.kernel import REFRESH, progress
from stage1_vqvae.progress import Progress


class TrainingProgress(ProgressBar):
    """Shows steps, the time that is left, and metrics.

    Args:
        title: What the training is called.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._progress: Progress | None = None
        self._refreshed = 0.0
        self._note = ""
        self._valued_at = -1  # the step whose metrics are shown

    def disable(self) -> None:
        """Show nothing: Lightning asks for it on all ranks but the first."""
        self.title = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that the training goes on from."""
        if self.title:
            self._progress = progress(self.title, trainer.max_steps, trainer.global_step, "steps")
            self._progress.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show how far the training is, not more often than it is looked at."""
        if self._progress is not None and time.monotonic() - self._refreshed >= REFRESH:
            self._refreshed = time.monotonic()
            self._progress.reach(trainer.global_step, self._metrics(trainer, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics of the validation the next time."""
        self._valued_at = -1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last step, and end."""
        if self._progress is not None:
            self._progress.reach(trainer.global_step, self._metrics(trainer, pl_module))
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End, also where the training does not."""
        self._end()

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """The metrics to show: ``loss`` of training, ``val psnr`` of the last validation.

        They are read from the device once after each step that logs, not at every look.
        """
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logged_at = trainer.global_step // every * every
        if logged_at != self._valued_at:
            self._valued_at = logged_at
            self._note = ", ".join(
                f"{name.removeprefix('train/').replace('validation/', 'val ')} {value:.4g}"
                for name, value in self.get_metrics(trainer, pl_module).items()
                if isinstance(value, float)
            )
        return self._note
