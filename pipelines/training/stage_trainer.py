"""Settings of one stage's training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageTrainer:
    """How long and how carefully one stage trains.

    Attributes:
        max_steps: Optimiser steps.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints to resume from.
        accumulate_grad_batches: Batches per optimiser step.
        gradient_clip_val: Largest norm of the gradient; null for no limit.
        ema_decay: Decay of the moving average of weights that is validated and kept; null keeps the last weights.
        max_skipped: Steps in a row that may be skipped because loss or gradient is not finite.

    Raises:
        ValueError: If nothing would be trained.
    """

    max_steps: int
    validate_every: int
    checkpoint_every: int
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    ema_decay: float | None = None
    max_skipped: int = 20

    def __post_init__(self) -> None:
        for name in ("max_steps", "validate_every", "checkpoint_every", "accumulate_grad_batches", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is in (0, 1), or null for none, got {self.ema_decay}")


def refuse_ema_with_fsdp(trainer: StageTrainer) -> None:
    """Check that no average of weights is asked for with ``hardware=fsdp``, which keeps none.

    Raises:
        ValueError: If ``trainer`` asks for one.
    """
    if trainer.ema_decay is not None:
        raise ValueError(
            "stage2.trainer.ema_decay: hardware=fsdp keeps no average of weights: give stage2.trainer.ema_decay=null"
        )
