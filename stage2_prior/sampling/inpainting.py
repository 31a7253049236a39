"""Inpainting: some codes of an image are held, the prior draws the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage2_prior.prior import NO_LABEL, Prior, check_labels
from stage2_prior.sampling.batch_invariance import MicroBatch, in_microbatches, plan
from stage2_prior.sampling.guidance import GuidedSteps, is_guided, without_guidance
from stage2_prior.sampling.precision import in_precision
from stage2_prior.sampling.sampler import (
    Drawn,
    check_finite,
    draw,
    image_noise,
    in_groups,
    log_prob_of,
    on_device,
    prefix_lengths,
    process_logits,
)
from stage2_prior.sampling.settings import SamplingSettings

CANDIDATES = 16
"""Candidates for an image of which a code is held after one that is drawn, unless the user says how many."""


def held_codes(codes: Tensor, keep_mask: Tensor, layout: CodeLayout) -> Tensor:
    """Codes ``[B, T]`` with -1 where they are not kept.

    Args:
        codes: int64 ``[B, T]``; those that are not kept may be anything.
        keep_mask: bool ``[B, T]`` or ``[T]``.
        layout: How the codes are laid out.

    Raises:
        ValueError: If the shapes do not fit or a kept code does not exist.
    """
    if keep_mask.dtype != torch.bool or keep_mask.shape not in (codes.shape, codes.shape[1:]):
        expected = f"{list(codes.shape)} or {list(codes.shape[1:])}"
        raise ValueError(f"keep_mask is bool {expected}, got {keep_mask.dtype} {list(keep_mask.shape)}")
    layout.check(codes.masked_fill(~keep_mask, 0))
    return codes.masked_fill(~keep_mask, -1)


def complete_images(
    prior: Prior,
    labels: Tensor,
    known: Tensor,
    seed: int,
    candidates: int | None = None,
    settings: SamplingSettings | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Drawn:
    """Draw the codes of images 0, 1, … that are not known, in micro-batches.

    A prior draws a code from those before it in raster order, so one draw does not see the codes that are held after
    it. Several candidates make up for that, see :func:`complete`. Where nothing is held, the first candidate is what
    :func:`~stage2_prior.sampling.sampler.sample_images` draws.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for the null class. They and ``known`` are best on the CPU: the host, which reads
            their values, then never waits for the device before all is drawn.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        seed: Of the noise.
        candidates: C, completions drawn for each image, of which one is taken; None for :data:`CANDIDATES` of images
            in which a code is held after one that is drawn, and one of the others.
        settings: How to draw.
        progress: Called after every micro-batch with the number of images in it.

    Returns:
        Codes and log-probabilities ``[B, T]`` on the prior's device.

    Raises:
        ValueError: If labels do not fit, or the seed or the number of candidates is out of range.
    """
    settings, labels, known = settings or SamplingSettings(), labels.cpu(), known.cpu()
    check_labels(labels, prior.num_classes, len(known))
    prior = in_precision(prior, settings.precision)
    length = prior.layout.length
    of_image = candidates_of(known, candidates)
    conditional, prefixes = (labels != NO_LABEL).tolist(), prefix_lengths(known)

    def complete_group(rows: Tensor) -> list[Tensor]:
        """Complete images that are computed alike."""
        one = int(rows[0])
        count, how = of_image[one], settings if conditional[one] else without_guidance(settings)
        numbers = image_noise(seed, rows.tolist(), (count + 1) * length + 1)
        noise, resampling = numbers[:, : count * length].unflatten(1, (count, length)), numbers[:, count * length :]

        def complete_batch(
            batch: MicroBatch, labels: Tensor, known: Tensor, noise: Tensor, resampling: Tensor
        ) -> Drawn:
            labels = labels.to(prior.device, non_blocking=True)
            return complete(prior, labels, known, noise, resampling, how, prefixes[one])

        size, indices = plan(prior, rows.tolist(), count, is_guided(prior, how), size=settings.microbatch_size)
        part = [labels[rows], known[rows], noise, resampling]
        return in_microbatches(complete_batch, indices, size, prior.device, *part, progress=progress)

    with prior.frozen():
        drawn = Drawn(*in_groups(complete_group, conditional, prefixes, of_image))
    check_finite(drawn)
    return drawn


def candidates_of(known: Tensor, candidates: int | None) -> list[int]:
    """How many candidates are drawn for each image of ``known [B, T]``, see :func:`complete_images`.

    Raises:
        ValueError: If the number that is asked for is out of range.
    """
    if candidates is None:
        return torch.where(held_later(known).any(1), CANDIDATES, 1).tolist()
    if candidates < 1:
        raise ValueError(f"candidates is at least 1, got {candidates}")
    return [candidates] * len(known)


def held_later(known: Tensor) -> Tensor:
    """Codes that are held after one that is drawn, bool ``[B, T]`` of ``known [B, T]``."""
    return (known >= 0) & (known < 0).cumsum(1).bool()


@torch.no_grad()
def complete(
    prior: Prior,
    labels: Tensor,
    known: Tensor,
    noise: Tensor,
    resampling: Tensor,
    settings: SamplingSettings | None = None,
    prefix: int = 0,
) -> Drawn:
    """Draw the codes that are not known, with C candidates at a time, and take one of the candidates.

    This is a particle filter (sequential importance resampling, Gordon et al. 1993). A candidate's weight is the
    probability that the prior, as it is without truncation and guidance, gives to the codes held after the first drawn
    one. When few candidates carry most of the weight, all go on from candidates drawn by weight (systematic
    resampling). As C grows, what is taken follows the prior given everything that is held. If the held codes all come
    first, one candidate is exact.

    Args:
        prior: Any prior, in eval mode; for C > 1 its incremental form needs ``select``.
        labels: int64 ``[B]``, -1 for the null class; on the prior's device.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn; best on the CPU, as its values are read.
        noise: Uniform numbers, float64 ``[B, C, T]``, with which the candidates are drawn.
        resampling: Uniform numbers, float64 ``[B, T + 1]``: for resampling at each position, and for the choice of
            one candidate at the end.
        settings: How to draw.
        prefix: Number of first codes that are held in all rows; they go through the prior at once.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    batch, candidates, length = noise.shape
    noise = on_device(noise, labels.device).flatten(0, 1)
    resampling = on_device(resampling, labels.device)
    weighed = held_later(known).any(0).tolist()  # [T]
    known = known.to(labels.device, non_blocking=True)
    later = held_later(known)
    each = known.repeat_interleave(candidates, 0)  # [B * C, T]
    codes, log_probs = each.clone(), each.new_zeros(each.shape, dtype=torch.float32)
    log_weight = noise.new_zeros(batch, candidates)
    with torch.inference_mode():
        steps = GuidedSteps(prior, labels.repeat_interleave(candidates), settings)
        if prefix > 0:
            steps.prefill(each[:, :prefix])
        for position in range(prefix, length):
            own, guided = steps.next(codes[:, position - 1] if position else None)
            logits = process_logits(guided, settings, codes[:, :position])
            drawn, held = draw(logits, noise[:, position]), each[:, position]
            code = torch.where(held < 0, drawn, held)
            log_prob = log_prob_of(own, code, logits)
            codes[:, position] = code
            log_probs[:, position] = log_prob.masked_fill(held >= 0, 0.0)
            if candidates > 1 and weighed[position]:
                log_weight += log_prob.view(batch, candidates) * later[:, position, None]
                rows = survivors(log_weight, resampling[:, position])
                if rows is not None:
                    steps.select(rows)
                    codes, log_probs = codes[rows], log_probs[rows]
        chosen = draw(log_weight, resampling[:, -1]) + torch.arange(batch, device=labels.device) * candidates
    return Drawn(codes[chosen].clone(), log_probs[chosen].clone())


def survivors(log_weight: Tensor, noise: Tensor) -> Tensor | None:
    """Rows from which the candidates go on, int64 ``[B * C]``; None if all are known to stay. New weights are written.

    Images whose effective number of candidates, ``1 / Σ w²``, is below C / 2 are resampled (systematic resampling).

    Args:
        log_weight: float64 ``[B, C]``; 0 afterwards where an image was resampled.
        noise: A uniform number for each image, float64 ``[B]``.
    """
    batch, candidates = log_weight.shape
    weight = log_weight.softmax(1)
    few = 1 / weight.square().sum(1) < candidates / 2  # [B]
    if few.device.type == "cpu" and not few.any():  # elsewhere the host would wait for the answer
        return None
    stay = torch.arange(candidates, device=weight.device)
    marks = (noise[:, None] + stay) / candidates  # [B, C], rising
    drawn = torch.searchsorted(weight.cumsum(1), marks, right=True).clamp(max=candidates - 1)
    log_weight.masked_fill_(few[:, None], 0.0)
    within = torch.where(few[:, None], drawn, stay)
    return (within + torch.arange(batch, device=weight.device)[:, None] * candidates).flatten()
