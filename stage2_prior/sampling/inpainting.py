"""Completion: some codes of an image are held, the prior draws the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stage2_prior.prior import Prior
from stage2_prior.sampling.batch_invariance import in_passes, pass_size
from stage2_prior.sampling.precision import in_precision
from stage2_prior.sampling.sampler import SamplingSettings, draw, image_noise, sample


def complete_images(
    prior: Prior,
    labels: Tensor,
    known: Tensor,
    seed: int,
    candidates: int = 1,
    settings: SamplingSettings | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Draw the codes of images 0, 1, … that are not known, in passes of a fixed size.

    A prior draws a code from those before it in raster order, so one pass does not see what is held after the code
    that it draws. Several candidates make up for it, see :func:`complete`. Where nothing is held, the first candidate
    is what :func:`~stage2_prior.sampling.sampler.sample_images` draws.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for "any class"; on the prior's device.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        seed: Of the noise.
        candidates: C, completions drawn for each image, of which one is taken.
        settings: How to draw.
        progress: Called after every pass with the number of images in it.

    Returns:
        int64 ``[B, T]``.

    Raises:
        ValueError: If labels do not fit, or the seed or the number of candidates is out of range.
    """
    if candidates < 1:
        raise ValueError(f"candidates is at least 1, got {candidates}")
    if labels.shape != known.shape[:1]:
        raise ValueError(f"labels of shape [{len(known)}] expected, got {list(labels.shape)}")
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    length = prior.layout.length
    numbers = image_noise(seed, range(len(labels)), candidates * length + 1)
    noise, choice = numbers[:, :-1].unflatten(1, (candidates, length)), numbers[:, -1]

    def complete_pass(labels: Tensor, known: Tensor, noise: Tensor, choice: Tensor) -> Tensor:
        return complete(prior, labels, known, noise, choice, settings)

    size = max(pass_size(prior.layout, labels.device) // candidates, 1)
    with prior.frozen():
        return in_passes(complete_pass, 0, size, labels, known, noise, choice, progress=progress)


@torch.no_grad()
def complete(
    prior: Prior,
    labels: Tensor,
    known: Tensor,
    noise: Tensor,
    choice: Tensor,
    settings: SamplingSettings | None = None,
) -> Tensor:
    """Draw the codes that are not known, C times, and take one of the candidates.

    One is chosen with probability in proportion to how likely the prior (as it is, without truncation or guidance)
    finds the codes held after the first drawn one. This is sampling-importance-resampling (Rubin 1987): as C grows,
    the choice follows the prior given everything that is held. Where the held codes all come first, one candidate is
    exact.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for "any class".
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        noise: Uniform numbers, float64 ``[B, C, T]``, with which the C candidates are drawn.
        choice: Uniform numbers, float64 ``[B]``, with which one of them is chosen.
        settings: How to draw.

    Returns:
        int64 ``[B, T]``.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    batch, candidates, length = noise.shape
    each = known.repeat_interleave(candidates, 0)  # [B * C, T]
    each_label = labels.repeat_interleave(candidates, 0)
    codes = sample(prior, each_label, noise.reshape(-1, length), settings, each)
    if candidates == 1:
        return codes
    held_later = (known >= 0) & (known < 0).cumsum(1).bool()
    nats = prior.nats(codes, each_label).unflatten(0, (batch, candidates))  # [B, C, T]
    log_weight = -(nats * held_later[:, None]).sum(-1)
    chosen = draw(log_weight, choice.to(labels.device))
    return codes.unflatten(0, (batch, candidates))[torch.arange(batch, device=labels.device), chosen]
