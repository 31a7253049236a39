"""The progress bar of a training."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's rich bar over steps, without the epoch, which is the whole training here."""

    def __init__(self, title: str) -> None:
        super().__init__(leave=True)
        self.title = title

    def _get_train_description(self, current_epoch: int) -> str:
        return self.title

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The figures that matter: ``loss`` of training, ``val psnr`` of the last validation."""
        figures = super().get_metrics(trainer, pl_module)
        return {
            name.removeprefix("train/").replace("validation/", "val "): f"{value:.4g}"
            for name, value in figures.items()
            if isinstance(value, float)
        }
