"""How long a training step takes on this machine, found by taking some."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed.hardware import Hardware
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.lightning_module import TokenizerTraining
from stage2_prior.lightning_module import PriorTraining

WARM_UP, STEPS, PATIENCE = 2, 5, 4.0
"""Steps before the clock runs, steps that are timed, and seconds after which fewer will do."""


def seconds_per_step(step: Callable[[], None], device: torch.device) -> float:
    """The median time of a step."""

    def timed() -> float:
        start = time.perf_counter()
        step()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    start, taken = time.perf_counter(), []
    for number in range(WARM_UP + STEPS):
        taken.append(timed())
        if number >= WARM_UP and time.perf_counter() - start > PATIENCE:
            break
    return median(taken[min(WARM_UP, len(taken) - 1) :])


def tokenizer_step(settings: Settings, images: ImageData, hardware: Hardware) -> Callable[[], None]:
    """A training step of stage one on a batch of the data."""
    stage, trust = settings["stage1"], settings["trust"]
    model = build(stage["model"], "stage1.model", trust).to(hardware.device)
    objective = build(stage["objective"], "stage1.objective", trust)
    optimization = build(stage["optimization"], "stage1.optimization", trust)
    module = TokenizerTraining(model, objective, images.augmentation, optimization, 0, hardware.channels_last)
    draws = list(range(min(stage["batch_size"], len(images.train))))
    batch = {key: value.to(hardware.device) for key, value in images.train.__getitems__(draws).items()}
    return step_of(module.to(hardware.device), lambda: module.training_step(batch, 0)["loss"], hardware, model.step)


def prior_step(settings: Settings, classes: int, hardware: Hardware) -> Callable[[], None]:
    """A training step of stage two on random codes."""
    stage, trust = settings["stage2"], settings["trust"]
    layout = build(settings["stage1"]["model"], "stage1.model", trust).layout
    model = build(stage["model"], "stage2.model", trust, layout=layout, num_classes=classes)
    optimization = build(stage["optimization"], "stage2.optimization", trust)
    module = PriorTraining(model, stage["label_dropout"], 0.0, optimization).to(hardware.device)
    size = stage["batch_size"]
    limits = layout.codebook_size_at()
    codes = (torch.rand(size, layout.length) * limits).long()
    batch = {"codes": codes, "labels": torch.arange(size) % max(classes, 1) if classes else torch.full((size,), -1)}
    batch = {key: value.to(hardware.device) for key, value in batch.items()}
    return step_of(module, lambda: module.training_step(batch, 0)["loss"], hardware)


def step_of(
    module: nn.Module, loss: Callable[[], torch.Tensor], hardware: Hardware, after: Callable[[], None] | None = None
) -> Callable[[], None]:
    """One step of an optimiser of the same cost as the training's."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
    lower = str(hardware.precision).startswith("bf16")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(hardware.device.type, dtype=torch.bfloat16, enabled=lower):
            value = loss()
        value.backward()
        optimizer.step()
        if after is not None:
            after()

    return step
