"""Grids larger than those a prior was trained on, by a window of the training grid's shape that slides over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stage2_prior.prior import NO_LABEL, Prior, check_labels
from stage2_prior.sampling.batch_invariance import MicroBatch, in_microbatches, plan
from stage2_prior.sampling.guidance import GuidedSteps, Prediction, is_guided, without_guidance
from stage2_prior.sampling.precision import in_precision
from stage2_prior.sampling.sampler import (
    Drawn,
    check_finite,
    draw,
    image_noise,
    in_groups,
    log_prob_of,
    on_device,
    process_logits,
)
from stage2_prior.sampling.settings import SamplingSettings


def sample_larger_images(
    prior: Prior,
    labels: Tensor,
    seed: int,
    shape: tuple[int, int],
    first: int = 0,
    settings: SamplingSettings | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Drawn:
    """Draw grids of any shape for images ``first``, ``first + 1``, …, in micro-batches; see :func:`sample_larger`.

    As with :func:`~stage2_prior.sampling.sampler.sample_images`, an image is the same however the images are batched.

    Args:
        prior: A prior of one grid of two axes, in eval mode.
        labels: int64 ``[B]``, -1 for the null class; best on the CPU, as their values are read.
        seed: Of the noise.
        shape: ``(H, W)`` in codes, neither below the training grid's.
        first: Index of the first image.
        settings: How to draw.
        progress: Called after every micro-batch with the number of images in it.

    Returns:
        Codes and log-probabilities ``[B, H * W]`` on the prior's device.

    Raises:
        ValueError: If the prior has another layout, the shape is too small, a label or the seed is out of range, or
            the prior's logits are not finite.
    """
    settings, labels = settings or SamplingSettings(), labels.cpu()
    check_labels(labels, prior.num_classes, len(labels))
    noise = image_noise(seed, range(first, first + len(labels)), shape[0] * shape[1])
    prior = in_precision(prior, settings.precision)
    _, window = window_shape(prior, shape)
    states = len(set(starts(shape[1], window)))  # windows side by side
    conditional = (labels != NO_LABEL).tolist()

    def draw_group(rows: Tensor) -> list[Tensor]:
        """Draw images that are computed alike."""
        how = settings if conditional[int(rows[0])] else without_guidance(settings)

        def draw_batch(batch: MicroBatch, labels: Tensor, noise: Tensor) -> Drawn:
            return sample_larger(prior, labels.to(prior.device, non_blocking=True), noise, shape, how)

        guided = is_guided(prior, how)
        images = (rows + first).tolist()
        size, indices = plan(prior, images, guided=guided, states=states, size=settings.microbatch_size)
        return in_microbatches(draw_batch, indices, size, prior.device, labels[rows], noise[rows], progress=progress)

    with prior.frozen():
        drawn = Drawn(*in_groups(draw_group, conditional))
    check_finite(drawn)
    return drawn


def sample_larger(
    prior: Prior,
    labels: Tensor,
    noise: Tensor,
    shape: tuple[int, int],
    settings: SamplingSettings | None = None,
) -> Drawn:
    """Draw one grid of any shape per label, in raster order.

    Every code is drawn inside a window around it (as in arXiv 2012.09841, section 3.3), from the codes of the window
    that come before it, as if the window were the whole image. Near a border of the grid the window lies at that
    border, so the prior sees borders as in training. Windows move by half their size, and each keeps its incremental
    state over all rows that it serves. That takes about three steps of the prior a code; a window centred on every
    code would take half its own size in steps. At the training grid's shape this is
    :func:`~stage2_prior.sampling.sampler.sample`.

    Args:
        prior: A prior of one grid of two axes, in eval mode.
        labels: int64 ``[B]``, -1 for the null class; on the prior's device.
        noise: Uniform numbers in [0, 1), float64 ``[B, H * W]``.
        shape: ``(H, W)`` in codes, neither below the training grid's.
        settings: How to draw.

    Returns:
        Codes and log-probabilities ``[B, H * W]``.

    Raises:
        ValueError: If the prior has another layout or the shape is too small.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    height, width = window_shape(prior, shape)
    noise = on_device(noise, labels.device).unflatten(1, shape)
    codes = labels.new_full((len(labels), *shape), -1)
    log_probs = noise.new_zeros(codes.shape, dtype=torch.float32)
    tops, lefts = (starts(*sizes) for sizes in zip(shape, (height, width), strict=True))
    windows: dict[int, Window] = {}  # of the current top, by left
    with torch.inference_mode():
        for row, top in enumerate(tops):
            if row == 0 or top != tops[row - 1]:
                windows = {
                    left: Window(
                        GuidedSteps(prior, labels, settings), codes[:, top : top + height, left : left + width]
                    )
                    for left in set(lefts)
                }
            for column, left in enumerate(lefts):
                own, guided = windows[left].predict(row - top, column - left)
                logits = process_logits(guided, settings, windows[left].before)
                code = draw(logits, noise[:, row, column])
                codes[:, row, column] = code
                log_probs[:, row, column] = log_prob_of(own, code, logits)
    return Drawn(codes.flatten(1), log_probs.flatten(1))


def window_shape(prior: Prior, shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the prior's only grid.

    Raises:
        ValueError: If it has not one grid of two axes, or the larger ``shape`` is smaller.
    """
    grids = prior.layout.grids
    if len(grids) != 1 or len(grids[0]) != 2:
        raise ValueError(f"larger images need codes of one grid with two axes, this run's grids are {grids}")
    height, width = grids[0]
    if shape[0] < height or shape[1] < width:
        raise ValueError(f"larger images have at least the training grid's {height}×{width} codes, got {shape}")
    return height, width


def starts(size: int, window: int) -> list[int]:
    """The start of the window that serves each position along an axis.

    Windows move by half their size and serve their middle half; the first and the last also serve the ends.
    """
    stride = max(window // 2, 1)
    first = -(-(window - stride) // 2)  # of the middle half
    return [min(max((position - first) // stride * stride, 0), size - window) for position in range(size)]


class Window:
    """One window of a larger grid, through which a prior goes in raster order.

    Args:
        steps: The prior at its start.
        codes: The window's part ``[B, h, w]`` of the larger grid, a view that is filled while codes are drawn.
    """

    def __init__(self, steps: GuidedSteps, codes: Tensor) -> None:
        self.steps = steps
        self.codes = codes
        self.position = 0  # the next one

    @property
    def before(self) -> Tensor:
        """The window's codes before the position that was predicted last, int64 ``[B, t]``."""
        return self.codes.flatten(1)[:, : self.position - 1]

    def predict(self, row: int, column: int) -> Prediction:
        """Logits of a position after all those asked for before."""
        width = self.codes.shape[2]
        end = row * width + column
        assert self.position <= end
        for position in range(self.position, end + 1):
            above, left = divmod(position - 1, width)
            prediction = self.steps.next(self.codes[:, above, left] if position else None)
        self.position = end + 1
        return prediction
