"""One loop that draws codes from any prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from stage2_prior.prior import NO_LABEL, Incremental, Prior
from stage2_prior.sampling.batch_invariance import in_passes, pass_size
from stage2_prior.sampling.precision import Precision, in_precision
from stage2_prior.sampling.truncation import keep_min_p, keep_top_k, keep_top_p

Schedule = Literal["constant", "linear"]
"""How the guidance scale goes along the positions."""


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn from a prior's logits; each default changes nothing.

    They act in this order: guidance, temperature, top-k, top-p, min-p, each on the distribution that the one before
    left.

    Attributes:
        temperature: Divides the logits; towards 0 only the likeliest code is drawn.
        top_k: Keep the k likeliest codes; None keeps all.
        top_p: Keep the likeliest codes that hold this share of probability (arXiv 1904.09751); None or 1 keeps all.
        min_p: Keep codes at least this many times as likely as the likeliest (arXiv 2407.01082); None or 0 keeps all.
        guidance: Classifier-free guidance scale s (arXiv 2207.12598): log-probabilities become
            ``any_class + s (of_class - any_class)``; 1 is off.
        guidance_schedule: ``constant``, or ``linear``: the scale rises from 1 at the first position, where classes
            and compositions part, to ``guidance`` at the last.
        precision: What the prior computes in; codes are drawn in float64 either way. ``bfloat16`` halves what is read
            for every code, its logits have 8 bits.

    Raises:
        ValueError: If a setting is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    guidance: float = 1.0
    guidance_schedule: Schedule = "constant"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is above 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is at least 1, or null for all codes, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is in (0, 1], or null for all codes, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is in [0, 1], or null for all codes, got {self.min_p}")
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance is at least 0, and 1 is off, got {self.guidance}")
        if self.guidance_schedule not in get_args(Schedule):
            raise ValueError(f"guidance_schedule: constant or linear expected, got {self.guidance_schedule!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: float32 or bfloat16 expected, got {self.precision!r}")


def image_noise(seed: int, images: Iterable[int], length: int) -> Tensor:
    """A uniform number for every code of every image, a function of (seed, image index) alone: float64 ``[B, T]``.

    What image i becomes thus depends neither on its batch nor on the process that draws it.

    Raises:
        ValueError: If the seed is negative or does not fit 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is from 0 to 2^64 - 1, got {seed}")
    # Philox is a counter-based generator: every key is a stream of its own.
    rows = [np.random.Generator(np.random.Philox(key=(seed, image))).random(length) for image in images]
    return torch.from_numpy(np.array(rows).reshape(-1, length))


def classes_in_turn(n: int, num_classes: int) -> Tensor:
    """Classes 0, 1, … around and around for ``n`` images, int64 ``[n]``; -1 for a prior without classes."""
    return torch.arange(n) % num_classes if num_classes else torch.full((n,), NO_LABEL)


def sample_images(
    prior: Prior,
    labels: Tensor,
    seed: int,
    first: int = 0,
    settings: SamplingSettings | None = None,
    known: Tensor | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Draw codes of images ``first``, ``first + 1``, …, in passes of a fixed size.

    See :mod:`stage2_prior.sampling.batch_invariance`.

    On one kind of device an image's codes are a function of its index, the seed, its label, what is known of it and
    the settings: bit for bit, however the images are batched or shared among processes.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for "any class"; on the prior's device.
        seed: Of the noise.
        first: Index of the first image.
        settings: How to draw.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        progress: Called after every pass with the number of images in it.

    Returns:
        int64 ``[B, T]``.

    Raises:
        ValueError: If the seed is out of range.
    """
    settings = settings or SamplingSettings()
    noise = image_noise(seed, range(first, first + len(labels)), prior.layout.length)
    prior = in_precision(prior, settings.precision)

    def draw_pass(labels: Tensor, noise: Tensor, known: Tensor | None = None) -> Tensor:
        return sample(prior, labels, noise, settings, known)

    rows = (labels, noise) if known is None else (labels, noise, known)
    with prior.frozen():
        return in_passes(draw_pass, first, pass_size(prior.layout, labels.device), *rows, progress=progress)


def sample(
    prior: Prior,
    labels: Tensor,
    noise: Tensor,
    settings: SamplingSettings | None = None,
    known: Tensor | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Tensor:
    """Draw one sequence of codes per label.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for "any class".
        noise: Uniform numbers in [0, 1), float64 ``[B, T]``, at which each code's cumulative distribution is inverted.
        settings: How to draw.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        progress: Called after every position.

    Returns:
        int64 ``[B, T]``.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    noise = noise.to(labels.device)
    drawn: list[Tensor] = []
    # Each of the many small operations takes a tenth less time than without gradients alone.
    with torch.inference_mode():
        steps = guided(prior, labels, settings.guidance, settings.guidance_schedule)
        for position in range(prior.layout.length):
            logits = steps.next_logits(drawn[-1] if drawn else None)
            code = draw(truncate(logits.float() / settings.temperature, settings), noise[:, position])
            if known is not None:
                code = torch.where(known[:, position] < 0, code, known[:, position])
            drawn.append(code)
            progress()
        codes = torch.stack(drawn, dim=1)
    return codes.clone()  # an ordinary tensor, fit for training too


def draw(logits: Tensor, noise: Tensor) -> Tensor:
    """Codes ``[B]`` at which the cumulative distribution of ``logits [B, K]`` passes ``noise [B]``, a float64."""
    cumulative = logits.softmax(-1, dtype=torch.float64).cumsum(-1)  # [B, K]
    threshold = noise[:, None] * cumulative[:, -1:]
    return (cumulative <= threshold).sum(-1).clamp(max=logits.shape[-1] - 1)


def truncate(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Logits ``[B, K]`` with the codes that top-k, top-p and min-p drop at -inf."""
    if settings.top_k is not None:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p is not None:
        logits = keep_top_p(logits, settings.top_p)
    if settings.min_p is not None:
        logits = keep_min_p(logits, settings.min_p)
    return logits


def guided(prior: Prior, labels: Tensor, scale: float, schedule: Schedule = "constant") -> Incremental:
    """The prior's incremental form with classifier-free guidance, or the prior itself where that changes nothing.

    That is at scale 1 and where every image is of any class: with and without its label it is the same.
    """
    nothing_to_guide = scale == 1 or bool((labels == NO_LABEL).all()) or prior.num_classes == 0
    return prior.incremental(labels) if nothing_to_guide else Guided(prior, labels, scale, schedule)


class Guided:
    """Classifier-free guidance (arXiv 2207.12598): one pass over the batch with and without its labels."""

    def __init__(self, prior: Prior, labels: Tensor, scale: float, schedule: Schedule = "constant") -> None:
        length = prior.layout.length
        rising = np.linspace(1, scale, length) if length > 1 else [scale]
        self.scales = iter(rising if schedule == "linear" else [scale] * length)
        self.both = prior.incremental(torch.cat([labels, torch.full_like(labels, NO_LABEL)]))

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Guided logits ``[B, K]`` of the next position."""
        logits = self.both.next_logits(None if codes is None else codes.repeat(2))
        of_class, any_class = logits.float().log_softmax(-1).chunk(2)
        absent = of_class == -torch.inf  # of a smaller codebook; inf - inf would be NaN
        return torch.where(absent, of_class, any_class + float(next(self.scales)) * (of_class - any_class))
