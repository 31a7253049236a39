"""Training of one stage: Lightning's Trainer with resuming, averaged weights, progress and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor

from pipelines.cli.console import console
from pipelines.distributed import collectives
from pipelines.distributed.devices import float32_products
from pipelines.distributed.fsdp import ShardedPriorTraining, load_full_state
from pipelines.distributed.hardware import Hardware
from pipelines.distributed.lightning import trainer_options
from pipelines.training.checkpoint_files import VerifiedIO, load_checkpoint, newest, step_path
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.data import StageData
from pipelines.training.ema import AveragedWeights
from pipelines.training.memory import check_memory
from pipelines.training.nonfinite import SkipNonFinite
from pipelines.training.preemption import StopRequest
from pipelines.training.progress import TrainingProgress
from pipelines.training.stage_trainer import StageTrainer
from pipelines.training.step_seed import StepSeed
from stage1_vqvae.files import check_writable

STATE = 3
"""Tensors of the size of each weight while it is trained: its gradient and Adam's two moments."""

CHECKPOINTS = 12
"""Room that checkpoints take, in sizes of the model: three at a time, of weights, average and Adam's two moments."""


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
    """Train, from the folder's newest verified checkpoint on; the module ends with the weights to keep.

    Args:
        title: What the progress bar says.
        module: To be trained.
        data: To train and validate on.
        folder: For checkpoints.
        settings: How long and how carefully.
        hardware: On what.
        loggers: For metrics.
        callbacks: Further ones.
        best: Metric by which the weights to keep are chosen among validations, and its direction; None keeps the
            last.

    Returns:
        The last validation's metrics, of the weights that are kept.

    Raises:
        ValueError: If it cannot be compiled, the memory does not hold it, no checkpoint is intact, or loss or gradients
            are not finite for too long.
        OSError: If checkpoints cannot be written.
        SystemExit: If the process was asked to stop; the same call goes on.
    """
    _refuse_compiling(module, hardware)
    model = type(getattr(module, "model", module))
    stop = StopRequest()
    skips = SkipNonFinite(settings.max_skipped, stop)
    averaging = [AveragedWeights(settings.ema_decay, skips)] if settings.ema_decay else []
    checkpoints = Checkpoints(folder, settings.checkpoint_every, stop, best)
    options = trainer_options(hardware, sharded=isinstance(module, ShardedPriorTraining), idle=_idles(module))
    trainer = Trainer(
        **{**options, "plugins": [*options["plugins"], VerifiedIO(model)]},
        **_schedule(settings),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        logger=loggers,
        # Pictures are drawn before the average leaves the module; what others do to gradients is checked after it.
        callbacks=[StepSeed(data.seed), TrainingProgress(title), *callbacks, *averaging, skips, checkpoints],
    )
    _leave_signals_to_us(trainer)
    if hardware.compile:
        module.training_step = torch.compile(module.training_step, fullgraph=True)  # type: ignore[method-assign]
    _check_room(title, module, folder, settings, hardware)
    with stop, float32_products(hardware.tf32):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint_to_resume(folder), weights_only=True)
        load_full_state(module, best_weights(folder, trainer.global_step, model))
        metrics = trainer.validate(module, datamodule=data, verbose=False)[0]
    return {name.removeprefix("validation/"): value for name, value in metrics.items()}


def _check_room(title: str, module: LightningModule, folder: Path, settings: StageTrainer, hardware: Hardware) -> None:
    """Raise ValueError or OSError unless memory and disk hold a training."""
    if not isinstance(module, ShardedPriorTraining):
        check_memory(title, module, hardware.device, STATE + bool(settings.ema_decay))
    if collectives.rank() == 0:
        check_writable(folder, room=CHECKPOINTS * sum(value.nbytes for value in module.state_dict().values()))


def _schedule(settings: StageTrainer) -> dict[str, Any]:
    """A Trainer's arguments for a training that is counted in optimiser steps: data never end an epoch."""
    return {
        "max_epochs": 1,
        "max_steps": settings.max_steps,
        "val_check_interval": settings.validate_every * settings.accumulate_grad_batches,
        "check_val_every_n_epoch": None,
        "accumulate_grad_batches": settings.accumulate_grad_batches,
        "gradient_clip_val": settings.gradient_clip_val,
        "log_every_n_steps": min(50, settings.validate_every),
    }


def _idles(module: LightningModule) -> bool:
    """Whether there are steps in which some parameters have no gradient."""
    return getattr(module, "idle_parameters", False)


def compiles(module: LightningModule) -> bool:
    """Whether a training's step is one graph for ``torch.compile``."""
    return getattr(module, "compiles", True)


def _refuse_compiling(module: LightningModule, hardware: Hardware) -> None:
    """Raise ValueError if a training is to be compiled whose steps are no single graph."""
    if hardware.compile and not compiles(module):
        raise ValueError(f"hardware.compile=true does not go with {type(module).__name__}: give hardware.compile=false")


def _leave_signals_to_us(trainer: Trainer) -> None:
    """Take Lightning's handling of signals away: two private methods, whose names a test watches."""
    # Its handler talks to other ranks from within the signal, and saves nothing.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # All ranks wait for one another before every batch, to ask whether it ran.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Find the checkpoint to resume from, None at the start; print which it is, and which were passed over and why."""
    found = newest(folder)
    for fault in found.passed_over:
        console.print(f"[yellow]![/] passed over: {fault}")
    if found.step is None:
        return None
    path = step_path(folder, found.step)
    console.print(f"going on from {path} (SHA-256 verified)")
    return path


def best_weights(folder: Path, last_step: int, model: type) -> dict[str, Tensor]:
    """Load the weights of the best validation from its checkpoint, or of the last step if none is looked for."""
    last = load_checkpoint(step_path(folder, last_step), model)
    if not last["bests"]:
        return last["state_dict"]
    step, _ = last["bests"][-1]
    return load_checkpoint(step_path(folder, step), model)["state_dict"]
