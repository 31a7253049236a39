"""One loop that draws codes from any prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stage2_prior.prior import NO_LABEL, Incremental, Prior


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn from a prior's logits; each default changes nothing.

    Attributes:
        temperature: Divides the logits; towards 0 only the likeliest code is drawn.
        top_k: Keep the k likeliest codes; None keeps all.
        top_p: Keep the likeliest codes that hold this share of probability; None keeps all.
        guidance: Classifier-free guidance scale s (arXiv 2207.12598): logits become
            ``any_class + s (of_class - any_class)``; 1 is off.

    Raises:
        ValueError: If a setting is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is above 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is at least 1, or null for all codes, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is in (0, 1], or null for all codes, got {self.top_p}")
        if not self.guidance >= 0:
            raise ValueError(f"guidance is at least 0, and 1 is off, got {self.guidance}")


def image_noise(seed: int, images: Iterable[int], length: int) -> Tensor:
    """A uniform number for every code of every image, a function of (seed, image index) alone: float64 ``[B, T]``.

    What image i becomes thus depends neither on its batch nor on the process that draws it.
    """
    # Philox is a counter-based generator: every key is a stream of its own.
    rows = [np.random.Generator(np.random.Philox(key=(seed, image))).random(length) for image in images]
    return torch.from_numpy(np.array(rows).reshape(-1, length))


def classes_in_turn(n: int, num_classes: int) -> Tensor:
    """Classes 0, 1, … around and around for ``n`` images, int64 ``[n]``; -1 for a prior without classes."""
    return torch.arange(n) % num_classes if num_classes else torch.full((n,), NO_LABEL)


@torch.no_grad()
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
    steps = guided(prior, labels, settings.guidance)
    noise = noise.to(labels.device)
    drawn: list[Tensor] = []
    for position in range(prior.layout.length):
        logits = steps.next_logits(drawn[-1] if drawn else None)
        code = draw(truncate(logits.float() / settings.temperature, settings), noise[:, position])
        if known is not None:
            code = torch.where(known[:, position] < 0, code, known[:, position])
        drawn.append(code)
        progress()
    return torch.stack(drawn, dim=1)


def draw(logits: Tensor, noise: Tensor) -> Tensor:
    """Codes ``[B]`` at which the cumulative distribution of ``logits [B, K]`` passes ``noise [B]``, a float64."""
    cumulative = logits.softmax(-1, dtype=torch.float64).cumsum(-1)  # [B, K]
    threshold = noise[:, None] * cumulative[:, -1:]
    return (cumulative <= threshold).sum(-1).clamp(max=logits.shape[-1] - 1)


def truncate(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Logits ``[B, K]`` with the codes that top-k and top-p drop at -inf."""
    if settings.top_k is not None and settings.top_k < logits.shape[-1]:
        least = logits.topk(settings.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if settings.top_p is not None and settings.top_p < 1:
        ordered, order = logits.softmax(-1).sort(dim=-1, descending=True)
        likelier = ordered.cumsum(-1) - ordered  # probability of all likelier codes; the likeliest always stays
        drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, likelier >= settings.top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits


def guided(prior: Prior, labels: Tensor, scale: float) -> Incremental:
    """The prior's incremental form with classifier-free guidance; scale 1 is the prior itself."""
    return prior.incremental(labels) if scale == 1 else Guided(prior, labels, scale)


class Guided:
    """Classifier-free guidance (arXiv 2207.12598): one pass over the batch with and without its labels."""

    def __init__(self, prior: Prior, labels: Tensor, scale: float) -> None:
        self.scale = scale
        self.both = prior.incremental(torch.cat([labels, torch.full_like(labels, NO_LABEL)]))

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Guided logits ``[B, K]`` of the next position."""
        logits = self.both.next_logits(None if codes is None else codes.repeat(2))
        of_class, any_class = logits.log_softmax(-1).chunk(2)
        absent = of_class == -torch.inf  # of a smaller codebook; inf - inf would be NaN
        return torch.where(absent, of_class, any_class + self.scale * (of_class - any_class))
