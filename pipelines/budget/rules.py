"""What is chosen for a run of a given time, and why: all rules, in the order in which they are applied.

Every rule proposes keys of the command and their values. What the user set stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

STAGE1, STAGE2 = 0.35, 0.5
"""Shares of the time for the two trainings; decoding, extraction, validation, samples and the report get the rest."""

AFTER = 0.05
"""Share of the time that samples and the report get after the prior's training."""

STEPS1, STEPS2 = 1500, 2000
"""Optimiser steps below which a smaller model is the better choice."""

FEW = 10_000
"""Training images below which a prior would learn them by heart."""

VALIDATIONS = 8
"""Validations of each training."""


@dataclass(frozen=True)
class Facts:
    """What is known of the data before anything is trained.

    Attributes:
        images: Training images.
        height: In pixels.
        width: In pixels.
        classes: 0 for none.
    """

    images: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Choice:
    """A key's value and the reason for it."""

    key: str
    value: Any
    reason: str


def data_choices(facts: Facts) -> list[Choice]:
    """What follows from the data alone, whatever the time."""
    size = 256 if facts.images < FEW else 512
    # A prior learns few images by heart; copies that were moved a little are what it has instead of more images.
    copies = min(16, max(1, round(60_000 / facts.images)))
    shift = max(1, round(min(facts.height, facts.width) / 32))
    few = f"{facts.images:,} training images"
    return [
        Choice("stage1.quantizer.codebook_size", size, f"{few}: each code is to be seen often"),
        Choice("data.augmentation.shift", shift, f"{few}; mirrored images only if you say data.augmentation.flip=true"),
        Choice("codes.copies", copies, f"{few}, so that the prior learns no image by heart"),
        Choice("stage1.batch_size", min(32, facts.images), "smaller batches, more steps"),
        Choice("stage2.batch_size", min(64, facts.images * copies), "as the recipes have it"),
        *(choices_for_few_images(few) if facts.images < FEW else []),
        *(choices_for_classes(facts.classes) if facts.classes > 1 else []),
    ]


def choices_for_few_images(few: str) -> list[Choice]:
    """What keeps a prior from learning images by heart; ``few`` says how many there are."""
    return [
        Choice("data.augmentation.rotate", 5.0, f"{few}: each a little turned, in degrees; 0 if they must not be"),
        Choice("data.augmentation.scale", 0.05, f"{few}: each a little larger or smaller; 0 if they must not be"),
        Choice("stage2.model.dropout", 0.2, f"{few}, so that the prior learns no image by heart"),
    ]


def choices_for_classes(classes: int) -> list[Choice]:
    """How a class is asked for."""
    return [Choice("sampling.guidance", 2.0, f"{classes} classes: samples show theirs, and vary less")]


def model_choices(facts: Facts) -> list[list[Choice]]:
    """Models to choose from, the largest first: of both stages, since the grid of codes ties them together."""
    fine, coarse = grid_for(facts, 16), grid_for(facts, 8)
    candidates = [(fine, 128, "transformer"), (fine, 64, "transformer_small"), (coarse, 64, "transformer_small")]
    return [[*tokenizer(*grid, width), *prior(option)] for grid, width, option in candidates]


def grid_for(facts: Facts, places: int) -> tuple[int, int, tuple[int, int]]:
    """The downsampling factor whose grid of codes is nearest to ``places`` along the longer side.

    Returns:
        The factor, the padding it needs, and the grid.
    """
    longer = max(facts.height, facts.width)
    fitting = []
    for exponent in range(1, 6):
        factor = 2**exponent
        needs = {(-side % factor) for side in (facts.height, facts.width)}
        if len(needs) == 1 and (need := needs.pop()) % 2 == 0 and longer >= factor:
            grid = ((facts.height + need) // factor, (facts.width + need) // factor)
            fitting.append((abs(math.log(max(grid) / places)), factor, need // 2, grid))
    if not fitting:
        raise ValueError(
            f"data.image_size=[{facts.height},{facts.width}]: no grid of codes fits; use sides that 4 or 8 divides"
        )
    _, factor, padding, grid = min(fitting)
    return factor, padding, grid


def tokenizer(factor: int, padding: int, grid: tuple[int, int], width: int) -> list[Choice]:
    """A VQ-VAE with normalised blocks and a deeper decoder, the recipe of ``experiment=cifar10``."""
    height, wide = grid
    return [
        Choice("stage1.model.downsample_factor", factor, f"{height}×{wide} = {height * wide} codes an image"),
        Choice("stage1.model.padding", padding, f"so that {factor} divides the sides"),
        Choice("stage1.model.width", width, "the widest that gets enough steps"),
        Choice("stage1.model.residual_width", width, "as wide as the network"),
        Choice("stage1.model.residual_layers", [2, 4], "the decoder is the deeper one"),
        Choice("stage1.model.norm", "group", "learns at a higher rate"),
        Choice("stage1.optimization.learning_rate", 2e-3, "of normalised networks"),
    ]


def prior(option: str) -> list[Choice]:
    """A transformer of one of the sizes of ``conf/stage2``."""
    return [Choice("stage2", option, "the largest that gets enough steps")]


def lengths(stage: str, seconds: float, step: float) -> list[Choice]:
    """Steps of a stage that takes ``seconds`` at ``step`` seconds each, and how often it is validated and saved."""
    steps = max(1, int(seconds / step))
    every = max(1, steps // VALIDATIONS)
    choices = [
        Choice(f"{stage}.trainer.max_steps", steps, f"{step:.3g} s a step here"),
        Choice(f"{stage}.trainer.validate_every", every, f"{VALIDATIONS} times"),
        Choice(f"{stage}.trainer.checkpoint_every", every, "with each validation"),
        Choice(f"{stage}.optimization.warmup_steps", min(100, max(1, steps // 20)), "a twentieth, 100 at most"),
    ]
    if stage == "stage2":  # an average over about a twelfth of the training
        decay = round(1 - min(0.1, max(0.001, 12 / steps)), 4)
        choices.append(Choice("stage2.trainer.ema_decay", decay, "an average over a twelfth of the training"))
    return choices
