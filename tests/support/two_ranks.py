"""Trainings on two gloo processes, for what holds across ranks."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning import Callback
from torch.distributed.tensor import DTensor

from pipelines.distributed import collectives, launch
from pipelines.distributed.fsdp import ShardedPriorTraining
from pipelines.distributed.hardware import Hardware
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.stage_trainer import StageTrainer
from tests.support.distributed import forking
from tests.support.resuming import Examples, muon_training, prior_training, tokenizer_training


class Signal(Callback):
    """Sends one rank a signal in a step, or in a batch of the validation after it."""

    def __init__(self, rank, number, step, validation_batch):
        self.rank, self.number, self.step, self.validation_batch = rank, number, step, validation_batch

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step and self.validation_batch is None and collectives.rank() == self.rank:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        here = trainer.global_step == self.step and batch_idx == self.validation_batch
        if here and collectives.rank() == self.rank:
            os.kill(os.getpid(), self.number)


class Spoil(Callback):
    """Spoils one rank's gradient in some steps; writes each rank's weights after every step."""

    def __init__(self, rank, steps, folder):
        self.rank, self.steps, self.folder = rank, steps, folder

    def on_after_backward(self, trainer, pl_module):
        if collectives.rank() == self.rank and trainer.global_step + 1 in self.steps:
            local(next(pl_module.parameters()).grad).view(-1)[0] = float("nan")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        weights = torch.cat([local(value.detach()).flatten() for value in pl_module.parameters()])
        torch.save(weights, self.folder / f"weights-{trainer.global_step}-{collectives.rank()}.pt")


class CountCollectives(Callback):
    """Writes the names of torch's collectives that Python calls in each batch, from its fetching to its end."""

    NAMES = ("all_reduce", "broadcast", "barrier", "all_gather", "all_gather_object", "broadcast_object_list", "reduce")

    def __init__(self, folder):
        self.folder, self.calls = folder, []

    def on_train_start(self, trainer, pl_module):
        for name in self.NAMES:
            setattr(dist, name, functools.partial(self._called, name, getattr(dist, name)))

    def _called(self, name, collective, *args, **kwargs):
        self.calls[-1].append(name) if self.calls else None
        return collective(*args, **kwargs)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append([])
        (self.folder / f"collectives-{trainer.global_rank}.json").write_text(json.dumps(self.calls[:-1]))


def local(tensor):
    """A rank's own part of a tensor, all of it where it is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Shown(Callback):
    """Writes the draws of every batch that is begun."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        draws = " ".join(str(draw) for draw in batch["draws"].tolist())
        (self.folder / f"batch-{batch_idx}-of-{collectives.ranks()}-{collectives.rank()}").write_text(draws)


def draws_shown(folder):
    """Draws by epoch, sorted, of all that ``Shown`` wrote: each of them once, if all is well."""
    draws = sorted(int(draw) for path in folder.iterdir() for draw in path.read_text().split())
    return {epoch: [draw for draw in draws if draw // 10 == epoch] for epoch in range(3)}


def sharded_training(make=prior_training):
    """The prior's training with parameters spread over the ranks."""
    module = make()
    how = module.label_dropout, module.unigram_entropy, module.optimization, (0.3, 0.8)
    return ShardedPriorTraining(module.model, *how)


MODULES = {
    "stage1": tokenizer_training,
    "stage2": prior_training,
    "sharded": sharded_training,
    "sharded_muon": functools.partial(sharded_training, muon_training),
}


def train_here(stage, folder, ranks, callbacks, options):
    """One rank's part of a training; ``stage`` is one of ``MODULES``."""
    make = MODULES[stage]
    best = None if stage == "stage1" else ("validation/nats", "min")
    torch.set_num_threads(1)
    settings = {"max_steps": 9, "validate_every": 4, "checkpoint_every": 2, "ema_decay": 0.9, **options}
    data = StageData(Examples(), Examples(), batch_size=4, seed=5, workers=0)
    hardware = Hardware("cpu", ranks, strategy="fsdp")
    fit("test", make(), data, folder, StageTrainer(**settings), hardware, [], callbacks, best=best)


@pytest.fixture(scope="module")
def forked():
    """Processes that begin as copies of this one: sooner than those that import everything anew."""
    with forking():
        yield


def train(stage, folder, ranks=2, callbacks=(), **options):
    """Train on some processes; SystemExit or ProcessExitedException where it is interrupted."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    launch.run_on_all(train_here, stage, folder, ranks, list(callbacks), options, processes=ranks)
