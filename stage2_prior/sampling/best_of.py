"""Several drawings of every image, of which the one is kept that shows its class best, as the prior itself judges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stage2_prior.prior import NO_LABEL, Prior
from stage2_prior.sampling.batch_invariance import BASE, MicroBatch, in_microbatches
from stage2_prior.sampling.sampler import Drawn, sample_images
from stage2_prior.sampling.settings import SamplingSettings


def best_images(
    prior: Prior,
    labels: Tensor,
    seed: int,
    first: int = 0,
    settings: SamplingSettings | None = None,
    known: Tensor | None = None,
    progress: Callable[[int], None] = lambda images: None,
    on_position: Callable[[list[int], Tensor], None] | None = None,
) -> Drawn:
    """Draw codes of images ``first``, ``first + 1``, …: the best of ``settings.best_of`` drawings of each.

    The best one has the largest ``log p(codes | label) - log p(codes)`` (:func:`evidence`). The first drawing of an
    image is the one that :func:`~stage2_prior.sampling.sampler.sample_images` gives, and an image is a function of its
    index, the seed, its label and the settings as it is there. Images of the null class are drawn once.

    Args:
        prior, labels, seed, first, settings, known, progress: Those of ``sample_images``.
        on_position: The same; it sees all drawings, one after another.

    Raises:
        ValueError: As ``sample_images`` does.
    """
    settings, labels = settings or SamplingSettings(), labels.cpu()
    attempts = settings.best_of if (labels != NO_LABEL).any() else 1

    def draw(attempt: int) -> Drawn:
        told = progress if attempt == attempts - 1 else lambda images: None
        return sample_images(prior, labels, seed, first, settings, known, told, on_position, attempt)

    best = draw(0)
    if attempts == 1:
        return best
    strongest = evidence(prior, best, labels, first)
    for attempt in range(1, attempts):
        other = draw(attempt)
        found = evidence(prior, other, labels, first)
        better = found > strongest
        best = Drawn(*(torch.where(better[:, None], new, old) for new, old in zip(other, best, strict=True)))
        strongest = torch.where(better, found, strongest)
    return best


def evidence(prior: Prior, drawn: Drawn, labels: Tensor, first: int = 0) -> Tensor:
    """How much more probable codes are as images of their class than as any, in nats: float32 ``[B]``.

    By Bayes' rule ``log p(codes | label) - log p(codes) = log p(label | codes) - log p(label)``. The second term is
    the prior's for the null class, with which it was trained on all classes. Images of the null class have 0.

    Args:
        prior: Any prior, in eval mode.
        drawn: Codes and their log-probabilities given ``labels``.
        labels: int64 ``[B]``, -1 for the null class.
        first: Index of the first image.
    """

    def of_any_class(batch: MicroBatch, codes: Tensor) -> list[Tensor]:
        return [prior.log_prob(codes.to(prior.device)).to(drawn.log_probs.device)]

    indices = range(first, first + len(labels))
    (unconditional,) = in_microbatches(of_any_class, indices, BASE, prior.device, drawn.codes.cpu())
    found: Tensor = drawn.log_probs.sum(1) - unconditional
    return found.masked_fill((labels == NO_LABEL).to(found.device), 0.0)
