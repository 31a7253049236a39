"""Training of one stage: Lightning's Trainer with resuming, averaged weights, progress and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from pytorch_lightning.loggers import Logger
from torch import Tensor

from pipelines.batches import StageData
from pipelines.hardware import Hardware


@dataclass(frozen=True)
class StageTrainer:
    """How long and how carefully one stage trains.

    Attributes:
        max_steps: Optimiser steps.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints to resume from.
        accumulate_grad_batches: Batches per optimiser step.
        gradient_clip_val: Largest norm of the gradient; null for no limit.
        average: Decay of the moving average of weights that is validated and kept; null keeps the last weights.

    Raises:
        ValueError: If nothing would be trained.
    """

    max_steps: int
    validate_every: int
    checkpoint_every: int
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_steps", "validate_every", "checkpoint_every", "accumulate_grad_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average is in (0, 1), or null for none, got {self.average}")


class StepSeed(Callback):
    """Randomness within a step (dropout, revived codes) as a function of (seed, step, rank): nothing to resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed torch for this batch."""
        entropy = np.random.SeedSequence((self.seed, batch_idx, trainer.global_rank))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


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


def fit(
    title: str,
    module: LightningModule,
    data: StageData,
    folder: Path,
    settings: StageTrainer,
    hardware: Hardware,
    loggers: list[Logger],
    callbacks: Sequence[Callback] = (),
    best: tuple[str, Literal["min", "max"]] | None = None,
) -> dict[str, float]:
    """Train, going on from the folder's checkpoint if there is one; the module ends with the weights to keep.

    Args:
        title: What the progress bar says.
        module: To be trained.
        data: To train and validate on.
        folder: For checkpoints.
        settings: How long and how carefully.
        hardware: On what.
        loggers: For figures.
        callbacks: Further ones.
        best: Metric by which the weights to keep are chosen among validations, and its direction; None keeps the
            last.

    Returns:
        The last validation's figures, of the weights that are kept.
    """
    resume = ModelCheckpoint(
        folder, "last", every_n_train_steps=settings.checkpoint_every, save_top_k=1, enable_version_counter=False
    )
    keep = [ModelCheckpoint(folder, "best", best[0], mode=best[1], enable_version_counter=False)] if best else []
    averaging = [average_weights(settings.average)] if settings.average else []
    trainer = Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices if hardware.devices != "auto" else hardware.processes,
        num_nodes=hardware.num_nodes,
        precision=hardware.precision,  # type: ignore[arg-type]
        strategy=hardware.strategy,
        use_distributed_sampler=False,
        max_epochs=1,
        max_steps=settings.max_steps,
        val_check_interval=settings.validate_every * settings.accumulate_grad_batches,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        log_every_n_steps=min(50, settings.validate_every),
        num_sanity_val_steps=0,
        enable_model_summary=False,
        logger=loggers,
        callbacks=[StepSeed(data.seed), Progress(title), *averaging, *keep, resume, *callbacks],
    )
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    if keep and keep[0].best_model_path:
        checkpoint = torch.load(keep[0].best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    figures = trainer.validate(module, datamodule=data, verbose=False)[0]
    return {name.removeprefix("validation/"): value for name, value in figures.items()}


def average_weights(decay: float) -> WeightAveraging:
    """Exponential moving average of weights, kept beside them, validated and saved in their place.

    After n updates the decay is ``(1 + n) / (10 + n)`` as long as that is lower, so that the average of a short
    training is not its random start. Buffers (codebooks among them) are copied as they are, never averaged.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
        weight = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
        return averaged.lerp(current, weight.to(averaged.device, averaged.dtype))

    return WeightAveraging(use_buffers=False, avg_fn=average)
