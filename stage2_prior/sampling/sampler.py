"""One loop that draws codes from any prior."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stage1_vqvae.devices import widest_float
from stage2_prior.prior import NO_LABEL, Prior, check_labels
from stage2_prior.sampling.batch_invariance import MicroBatch, in_microbatches, plan
from stage2_prior.sampling.guidance import GuidedSteps, is_guided, without_guidance
from stage2_prior.sampling.precision import in_precision
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.truncation import keep_min_p, keep_top_k, keep_top_p


class Drawn(NamedTuple):
    """Codes that were drawn."""

    codes: Tensor
    """int64 ``[B, T]``."""
    log_probs: Tensor
    """Log-probability in nats of each code under the prior given its label, without guidance, temperature and
    truncation: float32 ``[B, T]``; 0 for codes that were held, NaN where the logits to draw from were not finite. If no
    code was held, the sum over the positions is the prior's ``log_prob``."""


def image_noise(seed: int, images: Iterable[int], length: int) -> Tensor:
    """A uniform number for every code of every image, a function of (seed, image index) alone: float64 ``[B, T]``.

    So an image depends neither on its batch nor on the process that draws it.

    Raises:
        ValueError: If the seed is negative or does not fit 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is from 0 to 2^64 - 1, got {seed}")
    # Philox is a counter-based generator: every key is a stream of its own.
    rows = [np.random.Generator(np.random.Philox(key=(seed, image))).random(length) for image in images]
    return torch.from_numpy(np.array(rows).reshape(-1, length))


def on_device(noise: Tensor, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1) on a device, in its widest float, in which codes are then drawn."""
    dtype = widest_float(device)
    if dtype != noise.dtype:
        # Rounded on their own device, as the other one may not hold them; and not up to 1.
        noise = noise.to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2)
    return noise.to(device, non_blocking=True)


def classes_in_turn(n: int, classes: Sequence[int]) -> Tensor:
    """The classes around and around for ``n`` images, int64 ``[n]``; -1 where there are none."""
    return torch.tensor(list(classes) or [NO_LABEL])[torch.arange(n) % max(len(classes), 1)]


def sample_images(
    prior: Prior,
    labels: Tensor,
    seed: int,
    first: int = 0,
    settings: SamplingSettings | None = None,
    known: Tensor | None = None,
    progress: Callable[[int], None] = lambda images: None,
    on_position: Callable[[list[int], Tensor], None] | None = None,
) -> Drawn:
    """Draw codes of images ``first``, ``first + 1``, …, in micro-batches.

    On one kind of device an image's codes are a function of its index, the seed, its label, what is known of it and
    the settings: bit for bit, however the images are batched or shared among processes; see
    :mod:`stage2_prior.sampling.batch_invariance`.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for the null class. They and ``known`` are best on the CPU: the host, which reads
            their values, then never waits for the device before all is drawn.
        seed: Of the noise.
        first: Index of the first image.
        settings: How to draw.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        progress: Called after every micro-batch with the number of images in it.
        on_position: Called after every position of a micro-batch with the indices of its images and their codes so
            far, int64 ``[n, t]``; from several threads, one at a time.

    Returns:
        Codes and log-probabilities ``[B, T]`` on the prior's device.

    Raises:
        ValueError: If the seed or a label is out of range, or the prior's logits are not finite.
    """
    settings, labels = settings or SamplingSettings(), labels.cpu()
    check_labels(labels, prior.num_classes, len(labels))
    noise = image_noise(seed, range(first, first + len(labels)), prior.layout.length)
    prior = in_precision(prior, settings.precision)
    known = labels.new_full((len(labels), prior.layout.length), -1) if known is None else known.cpu()
    conditional, prefixes, lock = (labels != NO_LABEL).tolist(), prefix_lengths(known), Lock()

    def draw_group(rows: Tensor) -> list[Tensor]:
        """Draw images that are computed alike."""
        images, one = (rows + first).tolist(), int(rows[0])
        how = settings if conditional[one] else without_guidance(settings)

        def draw_batch(batch: MicroBatch, labels: Tensor, noise: Tensor, known: Tensor) -> Drawn:
            watch = watcher(on_position, lock, images, batch)
            labels = labels.to(prior.device, non_blocking=True)
            return sample(prior, labels, noise, how, known, prefixes[one], watch)

        size, indices = plan(prior, images, guided=is_guided(prior, how), size=settings.microbatch_size)
        part = [each[rows] for each in (labels, noise, known)]
        return in_microbatches(draw_batch, indices, size, prior.device, *part, progress=progress)

    with prior.frozen():
        # Guidance and prefilling change the last bits, so they are decided for each image by itself.
        drawn = Drawn(*in_groups(draw_group, conditional, prefixes))
    check_finite(drawn)
    return drawn


def watcher(
    on_position: Callable[[list[int], Tensor], None] | None, lock: Lock, images: list[int], batch: MicroBatch
) -> Callable[[Tensor], None]:
    """What a micro-batch calls with its codes after every position: tells a caller's function, one thread at a time."""

    def watch(codes: Tensor) -> None:
        if on_position is not None:
            with lock:
                on_position([images[row] for row in batch.rows], codes[batch.slots])

    return watch


def in_groups(compute: Callable[[Tensor], list[Tensor]], *keys: Iterable[object]) -> list[Tensor]:
    """What a function returns for each group of rows with equal keys, put together in the order of the rows.

    Args:
        compute: Takes numbers of rows, int64 ``[n]``, and returns tensors ``[n, ...]``.
        keys: Values for each row.
    """
    groups = defaultdict(list)
    for row, key in enumerate(zip(*keys, strict=True)):
        groups[key].append(row)
    found = [compute(torch.tensor(rows)) for rows in groups.values()]
    order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
    return [torch.cat(part)[order.to(part[0].device, non_blocking=True)] for part in zip(*found, strict=True)]


def prefix_lengths(known: Tensor) -> list[int]:
    """Number of codes that are held at the beginning of each row of ``known [B, T]``, at most T - 1."""
    lengths: list[int] = (known[:, :-1] >= 0).long().cumprod(1).sum(1).tolist()
    return lengths


def sample(
    prior: Prior,
    labels: Tensor,
    noise: Tensor,
    settings: SamplingSettings | None = None,
    known: Tensor | None = None,
    prefix: int = 0,
    on_position: Callable[[Tensor], None] = lambda codes: None,
) -> Drawn:
    """Draw one sequence of codes per label, without a synchronisation of host and device.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for the null class; on the prior's device.
        noise: Uniform numbers in [0, 1), float64 ``[B, T]``, at which each code's cumulative distribution is inverted.
        settings: How to draw.
        known: int64 ``[B, T]`` of codes to hold, -1 where one is to be drawn.
        prefix: Number of first codes that are held in all rows; they go through the prior at once.
        on_position: Called after every position with the codes so far, int64 ``[B, t]``.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    noise = on_device(noise, labels.device)
    known = labels.new_full(noise.shape, -1) if known is None else known.to(labels.device, non_blocking=True)
    codes, log_probs = known.clone(), noise.new_zeros(noise.shape, dtype=torch.float32)
    # Each of the many small operations takes a tenth less time than without gradients alone.
    with torch.inference_mode():
        steps = GuidedSteps(prior, labels, settings)
        if prefix > 0:
            steps.prefill(known[:, :prefix])
        for position in range(prefix, prior.layout.length):
            own, guided = steps.next(codes[:, position - 1] if position else None)
            logits = process_logits(guided, settings, codes[:, :position])
            drawn, held = draw(logits, noise[:, position]), known[:, position]
            codes[:, position] = torch.where(held < 0, drawn, held)
            log_probs[:, position] = log_prob_of(own, drawn, logits).masked_fill(held >= 0, 0.0)
            on_position(codes[:, : position + 1])
    return Drawn(codes, log_probs)


def process_logits(logits: Tensor, settings: SamplingSettings, codes: Tensor) -> Tensor:
    """Logits to draw from: temperature, top-k, top-p, min-p and processors applied to ``logits [B, K]``.

    Args:
        logits: float32, with guidance.
        settings: What to apply.
        codes: The codes before, int64 ``[B, t]``.
    """
    if settings.temperature == 0:
        logits = keep_top_k(logits, 1)
    elif settings.temperature != 1:
        logits = logits / settings.temperature
    if settings.top_k is not None:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p is not None:
        logits = keep_top_p(logits, settings.top_p)
    if settings.min_p is not None:
        logits = keep_min_p(logits, settings.min_p)
    for processor in settings.processors:
        logits = processor(logits, codes)
    return logits


def draw(logits: Tensor, noise: Tensor) -> Tensor:
    """Codes ``[B]`` at which the cumulative distribution of ``logits [B, K]`` passes ``noise [B]``, in its dtype."""
    cumulative = logits.softmax(-1, dtype=noise.dtype).cumsum(-1)  # [B, K]
    threshold = noise[:, None] * cumulative[:, -1:]
    return (cumulative <= threshold).sum(-1).clamp(max=logits.shape[-1] - 1)


def log_prob_of(own: Tensor, codes: Tensor, logits: Tensor) -> Tensor:
    """Log-probability in nats of ``codes [B]`` under a prior's logits, float32 ``[B]``.

    Args:
        own: The prior's logits ``[B, K]``, without guidance.
        codes: int64 ``[B]``.
        logits: What the codes were drawn from, ``[B, K]``; NaN is returned where no logit is finite or one is not a
            number.
    """
    found = own.log_softmax(-1).gather(1, codes[:, None])[:, 0]
    return found.masked_fill(~logits.amax(-1).isfinite(), torch.nan)


def check_finite(drawn: Drawn) -> None:
    """Raise ValueError if codes were drawn from logits that are not finite, which are codes of no meaning."""
    if drawn.log_probs.isnan().any():
        raise ValueError(
            "the logits that codes are drawn from are not finite: the prior's weights are damaged or its training "
            "diverged, or a processor left no code"
        )
