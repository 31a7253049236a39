"""A step of our training beside one of a plain loop over the same network, in turns in one process.

``python -m tests.benchmarks.training mnist5k:1 mnist5k:2 cifar10:1``; ``tiny:1`` and ``tiny:2`` are networks so small
that what remains is the cost of Python. Images and codes are random. The plain loop has the recipe's augmentation,
loss, optimiser, schedule, clipping and average, and nothing else: no checks, no logs, no checkpoints.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipelines.config.instantiate import build
from pipelines.distributed.hardware import Hardware
from pipelines.training.data import StageData, TrainingOrder
from pipelines.training.fit import fit
from pipelines.training.stage_trainer import StageTrainer
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.lightning_module import TokenizerTraining
from stage2_prior.lightning_module import PriorTraining
from tests.support.tiny import TINY, compose

HEADINGS = ("recipe", "plain, ms / step", "fit, ms / step", "difference, ms", "plain / fit")
EXAMPLES = 1024


class Random(Dataset[Any]):
    """Random images or codes that lie in memory, a whole batch at a time."""

    def __init__(self, **tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return EXAMPLES

    def __getitems__(self, draws: list[int]) -> dict[str, Tensor]:
        numbers = torch.tensor(draws)
        rows = numbers % EXAMPLES
        return {**{name: tensor[rows] for name, tensor in self.tensors.items()}, "draws": numbers}


@dataclass(frozen=True)
class Case:
    """What is trained: a stage of a recipe."""

    name: str
    make: Callable[[], LightningModule]
    data: Random
    batch_size: int
    trainer: StageTrainer

    def stage_data(self) -> StageData:
        """The batches of ``fit``."""
        return StageData(self.data, self.data, self.batch_size, seed=0, workers=0)


def case(name: str, steps: int) -> Case:
    """``recipe:stage``."""
    recipe, _, stage = name.partition(":")
    settings = compose(*(TINY if recipe == "tiny" else [f"experiment={recipe}"]))
    chosen = settings[f"stage{stage}"]
    torch.manual_seed(0)
    kept = {key: chosen["trainer"][key] for key in ("gradient_clip_val", "ema_decay", "accumulate_grad_batches")}
    trainer = StageTrainer(max_steps=steps, validate_every=steps, checkpoint_every=steps, **kept)
    optimization = build(chosen["optimization"], "optimization")
    if stage == "1":
        model = build(chosen["model"], "model")
        images = torch.randint(0, 256, (EXAMPLES, *model.image_size, model.channels), dtype=torch.uint8)
        augmentation = build({"_target_": "stage1_vqvae.data.Augmentation", **settings["data"]["augmentation"]}, "data")
        objective = build(chosen["objective"], "objective")

        def make() -> LightningModule:
            return TokenizerTraining(build(chosen["model"], "model"), objective, augmentation, optimization, 0)

        return Case(name, make, Random(images=images), chosen["batch_size"], trainer)
    tokenizer = build(settings["stage1"]["model"], "model")
    layout: CodeLayout = tokenizer.layout
    codes = torch.stack([torch.randint(0, int(size), (EXAMPLES,)) for size in layout.codebook_size_at()], dim=1)

    def make_prior() -> LightningModule:
        prior = build(chosen["model"], "model", layout=layout, num_classes=10)
        return PriorTraining(prior, chosen["label_dropout"], 1.0, optimization)

    labels = torch.randint(0, 10, (EXAMPLES,))
    return Case(name, make_prior, Random(codes=codes, labels=labels), chosen["batch_size"], trainer)


class Clock(Callback):
    """Processor seconds at the beginning of every batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.times.append(time.process_time())


def seconds_of_fit(chosen: Case) -> list[float]:
    """Processor seconds of each of our steps."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        hardware = Hardware("cpu", 1)
        fit("benchmark", chosen.make(), chosen.stage_data(), Path(folder), chosen.trainer, hardware, [], [clock])
    return differences(clock.times)


def seconds_of_loop(chosen: Case) -> list[float]:
    """Processor seconds of each step of the plain loop."""
    module = chosen.make().train()
    configured = module.optimization(module.model, chosen.trainer.max_steps)
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    parameters = list(module.model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    times = []
    for batch in batches(chosen):
        times.append(time.process_time())
        loss = loss_of(module, batch)
        optimizer.zero_grad()
        loss.backward()
        if chosen.trainer.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(parameters, chosen.trainer.gradient_clip_val)
        optimizer.step()
        scheduler.step()
        if isinstance(module, TokenizerTraining):
            module.model.step()
        if chosen.trainer.ema_decay:
            torch._foreach_lerp_(
                average, [parameter.detach() for parameter in parameters], 1 - chosen.trainer.ema_decay
            )
    return differences(times)


def batches(chosen: Case) -> Iterator[dict[str, Tensor]]:
    """The batches of ``fit``, by the same loader."""
    order = TrainingOrder(EXAMPLES, chosen.batch_size, chosen.trainer.max_steps, 0, seed=0)
    return iter(DataLoader(chosen.data, batch_sampler=order, collate_fn=lambda batch: batch))


def loss_of(module: LightningModule, batch: dict[str, Tensor]) -> Tensor:
    """Loss of a batch, by the parts that our modules call too."""
    if isinstance(module, TokenizerTraining):
        images = module.augmentation(batch["images"], batch["draws"], module.seed)
        passed = module.model(images)
        return module.objective(passed.images, images) + passed.loss
    labels = batch["labels"]
    hidden = torch.rand(len(labels)) < module.label_dropout
    return module.model.nats(batch["codes"], labels.masked_fill(hidden, -1)).mean()


def differences(times: list[float]) -> list[float]:
    """Seconds between neighbours, without the first steps, in which codebooks and caches start."""
    return [after - before for before, after in pairwise(times[3:])]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", help="RECIPE:STAGE, or tiny:STAGE")
    parser.add_argument("--steps", type=int, default=60, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for name in arguments.cases:
        chosen = case(name, arguments.steps)
        plain, ours = [], []
        for _ in range(arguments.turns):  # in turns, so that a busy machine is busy for both
            plain += seconds_of_loop(chosen)
            ours += seconds_of_fit(chosen)
        for what, value in (("median", statistics.median), ("fastest", min)):
            loop, whole = value(plain), value(ours)
            row = f"{1e3 * loop:.2f} | {1e3 * whole:.2f} | {1e3 * (whole - loop):.2f} | {loop / whole:.3f}"
            print(f"| {name}, {what} | {row} |", flush=True)


if __name__ == "__main__":
    main()
