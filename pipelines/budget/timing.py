"""How long a training step takes on this machine, found by taking some."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed.hardware import Hardware
from pipelines.training.fit import compiles
from pipelines.training.tokenizer_module import tokenizer_module
from stage1_vqvae.lightning_module import TokenizerTraining
from stage2_prior.lightning_module import PriorTraining

WARM_UP, STEPS, PATIENCE = 2, 5, 4.0
"""Steps before the clock runs, steps that are timed, and seconds after which fewer will do."""

LATE = SimpleNamespace(global_step=2**40, max_steps=2**41)
"""What a step asks a trainer for, in the place of one: late in a training all of its terms count."""

CLASSES = 10
"""Their number hardly changes a step's time."""


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


def tokenizer_step(settings: Settings, hardware: Hardware) -> Callable[[], None]:
    """A training step of stage one on random images."""
    stage, data, trust = settings["stage1"], settings["data"], settings["trust"]
    model = build(stage["model"], "stage1.model", trust)
    module = tokenizer_module(
        stage,
        trust,
        model=model,
        objective=build(stage["objective"], "stage1.objective", trust),
        augmentation=build(data["augmentation"], "data.augmentation", trust),
        optimization=build(stage["optimization"], "stage1.optimization", trust),
        channels_last=hardware.channels_last,
    )
    size = stage["batch_size"]
    images = torch.randint(256, (size, *data["image_size"], data["channels"]), dtype=torch.uint8)
    step = step_of(module, {"images": images, "draws": torch.arange(size)}, hardware)

    def step_with_codebook() -> None:
        step()
        module.after_step()

    return step_with_codebook


def prior_step(settings: Settings, hardware: Hardware) -> Callable[[], None]:
    """A training step of stage two on random codes."""
    stage, trust = settings["stage2"], settings["trust"]
    layout = build(settings["stage1"]["model"], "stage1.model", trust).layout
    model = build(stage["model"], "stage2.model", trust, layout=layout, num_classes=CLASSES)
    optimization = build(stage["optimization"], "stage2.optimization", trust)
    size = stage["batch_size"]
    codes = (torch.rand(size, layout.length) * layout.codebook_size_at()).long()
    labels = torch.arange(size) % CLASSES
    module = PriorTraining(model, stage["label_dropout"], 0.0, optimization)
    return step_of(module, {"codes": codes, "labels": labels}, hardware)


def step_of(
    module: TokenizerTraining | PriorTraining, batch: Mapping[str, Tensor], hardware: Hardware
) -> Callable[[], None]:
    """A step of a training's own optimiser on one batch."""
    module.to(hardware.device)
    module.trainer = LATE  # type: ignore[assignment]
    batch = {key: value.to(hardware.device) for key, value in batch.items()}
    made: Any = module.configure_optimizers()
    optimizer: Optimizer = made["optimizer"] if isinstance(made, Mapping) else made
    lower = hardware.training_precision.startswith("bf16")
    training_step = module.training_step
    if hardware.compile and compiles(module):
        training_step = torch.compile(training_step, fullgraph=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(hardware.device.type, dtype=torch.bfloat16, enabled=lower):
            loss = training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()

    return step
