"""What is chosen for a run of a given time, and why: all rules, in the order in which they are applied.

Every rule proposes keys of the command and their values. What the user set stays as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

STAGE1, STAGE2 = 0.35, 0.5
"""Shares of the time for the two trainings; decoding, extraction, validation, samples and the report get the rest."""

AFTER = 0.05
"""Share of the time that samples and the report get after the prior's training."""

STEPS1, STEPS2 = 1500, 1000
"""Optimiser steps below which a smaller model is the better choice."""

FEW = 10_000
"""Training images below which a prior would learn them by heart."""

DRAWN = 48
"""Colours up to which an image is drawn pixel by pixel, which no turning leaves as it is."""

VALIDATIONS = 8
"""Validations of each training."""

SIDES = (64, 128, 256)
"""Heights and widths to choose from, where the originals have them."""

SMALL = 64
"""Originals of one size are taken as they are up to this height and width."""

GREY = frozenset(("1", "L", "I", "I;16", "F"))
"""PIL's names of images of one channel."""

FASTER = 0.9
"""Share of the time below which a step is faster, and not by chance."""

COMPILED_FROM = 7200.0
"""Seconds of a budget from which a compilation pays, which may take minutes."""


@dataclass(frozen=True)
class Facts:
    """What is known of the data before anything is trained.

    Attributes:
        images: Training images.
        distinct: How many are left of them without those that nearly equal another one.
        height: In pixels.
        width: In pixels.
        classes: 0 for none.
        colours: Of an image, the median.
    """

    images: int
    distinct: int
    height: int
    width: int
    classes: int
    colours: int = 2**24


@dataclass(frozen=True)
class Choice:
    """A key's value and the reason for it."""

    key: str
    value: Any
    reason: str


def channel_choices(modes: Iterable[str]) -> list[Choice]:
    """How many channels images have that are of these modes, PIL's names; nothing where the default fits."""
    return [Choice("data.channels", 1, "all images are grey")] if set(modes) <= GREY else []


def image_sizes(originals: Counter[tuple[int, int]]) -> list[Choice]:
    """Sizes to choose from, the smallest first.

    Args:
        originals: How many images have each height and width.
    """
    (height, width), count = originals.most_common(1)[0]
    reason = f"{count / originals.total():.0%} of the images have {height}×{width}"
    if count == originals.total() and max(height, width) <= SMALL and height % 4 == width % 4 == 0:
        return [Choice("data.image_size", [height, width], reason)]
    shorter = int(median(min(size) for size in originals.elements()))
    sides = [side for side in SIDES if side <= shorter] or [max(4, min(shorter, SMALL) // 4 * 4)]
    reason += "; the largest size that gets enough steps" if len(sides) > 1 else ""
    return [Choice("data.image_size", [side, side], reason) for side in sides]


def data_choices(facts: Facts) -> list[Choice]:
    """What follows from the data alone, whatever the time."""
    # With N images a code is nearly determined by those before it after log N / log K places (arXiv 2605.06207): the
    # first two of few images. Copies that were moved a little are what a prior has instead of more images.
    size = 256 if facts.distinct < FEW else 512
    copies = min(16, max(1, round(60_000 / facts.distinct)))
    shift = max(1, round(min(facts.height, facts.width) / 32))
    few = f"{facts.images:,} training images"
    if facts.distinct < facts.images:
        few += f", {facts.distinct:,} distinct"
    return [
        Choice("stage1.quantizer.codebook_size", size, f"{few}: each code is to be seen often"),
        Choice("data.augmentation.shift", shift, f"{few}; mirrored images only if you say data.augmentation.flip=true"),
        Choice("codes.copies", copies, f"{few}, so that the prior learns no image by heart"),
        Choice("stage1.batch_size", min(32, facts.images), "smaller batches, more steps"),
        Choice("stage2.batch_size", min(32, facts.images * copies), "smaller batches, more steps"),
        *(choices_for_few_images(few, facts.colours) if facts.distinct < FEW else []),
        *(choices_for_classes(facts.classes) if facts.classes > 1 else []),
    ]


def choices_for_few_images(few: str, colours: int) -> list[Choice]:
    """What keeps a prior from learning images of so many colours by heart; ``few`` says how many there are."""
    dropout = Choice("stage2.model.dropout", 0.2, f"{few}, so that the prior learns no image by heart")
    if colours <= DRAWN:
        return [dropout]
    return [
        Choice("data.augmentation.rotate", 5.0, f"{few}: each a little turned, in degrees; 0 if they must not be"),
        Choice("data.augmentation.scale", 0.05, f"{few}: each a little larger or smaller; 0 if they must not be"),
        dropout,
    ]


def choices_for_classes(classes: int) -> list[Choice]:
    """How a class is asked for."""
    return [Choice("sampling.guidance", 2.0, f"{classes} classes: samples show theirs, and vary less")]


def hardware_variants(bfloat16: bool) -> list[dict[str, Any]]:
    """Settings of the hardware to try in place of those as they are, where steps are in bfloat16 already or not."""
    last, lower = {"hardware.channels_last": True}, {"hardware.precision": "bf16-mixed"}
    return [last] if bfloat16 else [last, lower, {**lower, **last}]


def hardware_choices(variant: Iterable[Choice], share: float) -> list[Choice]:
    """The settings of a variant with which steps take a ``share`` of the time; none where that is hardly less."""
    if share > FASTER:
        return []
    return [replace(one, reason=f"steps take {share:.0%} of the time here") for one in variant]


def grids(height: int, width: int) -> list[list[Choice]]:
    """Grids of codes of images of this size to choose from, from fine to coarse."""
    return [grid_choices(*grid_for(height, width, places)) for places in (16, 8)]


def tokenizers() -> list[list[Choice]]:
    """Networks of a VQ-VAE to choose from, the smallest first."""
    return [tokenizer(width) for width in (64, 128)]


def priors() -> list[list[Choice]]:
    """Priors to choose from, the smallest first."""
    return [prior(option) for option in ("transformer_small", "transformer")]


def grid_choices(factor: int, padding: int, grid: tuple[int, int]) -> list[Choice]:
    """The settings of a grid of codes."""
    height, width = grid
    return [
        Choice("stage1.model.downsample_factor", factor, f"{height}×{width} = {height * width} codes an image"),
        Choice("stage1.model.padding", padding, f"so that {factor} divides the sides"),
    ]


def tokenizer(width: int) -> list[Choice]:
    """A VQ-VAE with normalised blocks and a deeper decoder, the recipe of ``experiment=cifar10``."""
    return [
        Choice("stage1.model.width", width, "the widest that gets enough steps"),
        Choice("stage1.model.residual_width", width, "as wide as the network"),
        Choice("stage1.model.residual_layers", [2, 4], "the decoder is the deeper one"),
        Choice("stage1.model.norm", "group", "learns at a higher rate"),
        Choice("stage1.optimization.learning_rate", 2e-3, "of normalised networks"),
    ]


def prior(option: str) -> list[Choice]:
    """A transformer of one of the sizes of ``conf/stage2``."""
    return [
        Choice("stage2", option, "the largest that gets enough steps"),
        Choice("stage2.model.attention_dropout", 0.0, "faster steps, hence more of them"),
    ]


def grid_for(height: int, width: int, places: int) -> tuple[int, int, tuple[int, int]]:
    """The downsampling factor whose grid of codes is nearest to ``places`` along the longer side.

    Returns:
        The factor, the padding it needs, and the grid.
    """
    fitting = []
    for exponent in range(1, 6):
        factor = 2**exponent
        needs = {(-side % factor) for side in (height, width)}
        if len(needs) == 1 and (need := needs.pop()) % 2 == 0 and max(height, width) >= factor:
            grid = ((height + need) // factor, (width + need) // factor)
            fitting.append((abs(math.log(max(grid) / places)), factor, need // 2, grid))
    if not fitting:
        raise ValueError(f"data.image_size=[{height},{width}]: no grid of codes fits; use sides that 4 or 8 divides")
    _, factor, padding, grid = min(fitting)
    return factor, padding, grid


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
