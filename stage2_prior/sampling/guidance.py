"""Classifier-free guidance (arXiv 2207.12598): a prior computed with and without the labels."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stage2_prior.prior import NO_LABEL, Prior
from stage2_prior.sampling.settings import SamplingSettings


class Prediction(NamedTuple):
    """Logits of one position, ``[B, K]``."""

    own: Tensor
    """The prior's, given the label."""
    guided: Tensor
    """With guidance; those of the prior where it is off."""


class GuidedSteps:
    """A prior in the middle of drawing codes, with classifier-free guidance where it changes anything.

    Where the settings guide nothing the prior is computed once for each row, else with its label and without. For the
    null class guidance changes nothing; :func:`without_guidance` spares its cost.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for the null class.
        settings: How to guide.
    """

    def __init__(self, prior: Prior, labels: Tensor, settings: SamplingSettings) -> None:
        self.scales = settings.guidance_scales(prior.layout.length)
        self.position = 0
        self.doubled = is_guided(prior, settings)
        both = torch.cat([labels, torch.full_like(labels, NO_LABEL)]) if self.doubled else labels
        self.steps = prior.incremental(both)

    def next(self, codes: Tensor | None) -> Prediction:
        """Logits of the next position; ``codes [B]`` are those of the one before, None at first."""
        position, self.position = self.position, self.position + 1
        if not self.doubled:
            own = self.steps.next_logits(codes).float()
            return Prediction(own, own)
        logits = self.steps.next_logits(None if codes is None else codes.repeat(2))
        own, unconditional = logits.float().log_softmax(-1).chunk(2)
        absent = own == -torch.inf  # of a smaller codebook; inf - inf would be NaN
        scale = self.scales[position]
        return Prediction(own, torch.where(absent, own, unconditional + scale * (own - unconditional)))

    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]`` at once: the next logits, given the last of them, are those of position t."""
        self.position = codes.shape[1]
        self.steps.prefill(codes.repeat(2, 1) if self.doubled else codes)

    def select(self, rows: Tensor) -> None:
        """Go on in row i as row ``rows[i]`` would have, int64 ``[B]``."""
        self.steps.select(torch.cat([rows, rows + len(rows)]) if self.doubled else rows)


def without_guidance(settings: SamplingSettings) -> SamplingSettings:
    """The same settings for images of the null class, of which guidance changes nothing."""
    return replace(settings, guidance=1.0)


def is_guided(prior: Prior, settings: SamplingSettings) -> bool:
    """Whether the settings change how images of a class are drawn from a prior."""
    return prior.num_classes > 0 and any(scale != 1 for scale in settings.guidance_scales(prior.layout.length))


def idle_guidance(prior: Prior, settings: SamplingSettings) -> str:
    """That guidance changes nothing, where it is asked of a prior without classes; empty elsewhere."""
    if prior.num_classes > 0 or settings.guidance == 1:
        return ""
    return f"guidance={settings.guidance:g} changes nothing: the prior has no classes"


def warn_of_idle_guidance(prior: Prior, settings: SamplingSettings) -> None:
    """Warn the caller of the calling method of guidance that changes nothing."""
    if said := idle_guidance(prior, settings):
        warnings.warn(said, stacklevel=3)
