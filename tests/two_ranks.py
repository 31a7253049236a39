"""Trainings on two gloo processes, for what holds across ranks."""

import os
from pathlib import Path

import torch
from pytorch_lightning import Callback

from pipelines import processes
from pipelines.batches import StageData
from pipelines.fit import StageTrainer, fit
from pipelines.hardware import Hardware
from tests.resuming import Examples, prior_training, tokenizer_training


class Signal(Callback):
    """Sends one rank a signal in a step, or in a batch of the validation after it."""

    def __init__(self, rank, number, step, validation_batch):
        self.rank, self.number, self.step, self.validation_batch = rank, number, step, validation_batch

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step and self.validation_batch is None and processes.rank() == self.rank:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        here = trainer.global_step == self.step and batch_idx == self.validation_batch
        if here and processes.rank() == self.rank:
            os.kill(os.getpid(), self.number)


class Shown(Callback):
    """Writes the draws of every batch that is begun."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        draws = " ".join(str(draw) for draw in batch["draws"].tolist())
        (self.folder / f"batch-{batch_idx}-of-{processes.ranks()}-{processes.rank()}").write_text(draws)


def draws_shown(folder):
    """Draws by epoch, sorted, of all that ``Shown`` wrote: each of them once, if all is well."""
    draws = sorted(int(draw) for path in folder.iterdir() for draw in path.read_text().split())
    return {epoch: [draw for draw in draws if draw // 10 == epoch] for epoch in range(3)}


def train_here(stage, folder, ranks, callbacks, options):
    """One rank's part of a training; ``stage`` is ``stage1`` or ``stage2``."""
    make = {"stage1": tokenizer_training, "stage2": prior_training}[stage]
    best = ("validation/nats", "min") if stage == "stage2" else None
    torch.set_num_threads(1)
    settings = {"max_steps": 9, "validate_every": 4, "checkpoint_every": 2, "average": 0.9, **options}
    data = StageData(Examples(), Examples(), batch_size=4, seed=5, workers=0)
    fit("test", make(), data, folder, StageTrainer(**settings), Hardware("cpu", ranks), [], callbacks, best=best)


def train(stage, folder, ranks=2, callbacks=(), **options):
    """Train on some processes; SystemExit or ProcessExitedException where it is interrupted."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes.run_on_all(train_here, stage, folder, ranks, list(callbacks), options, processes=ranks)
