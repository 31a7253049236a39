"""Grids larger than those a prior was trained on, by a window of the training grid's shape that slides over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stage2_prior.prior import Incremental, Prior
from stage2_prior.sampling.batch_invariance import SMALLEST, in_passes, pass_size
from stage2_prior.sampling.precision import in_precision
from stage2_prior.sampling.sampler import SamplingSettings, draw, guided, image_noise, truncate


def sample_larger_images(
    prior: Prior,
    labels: Tensor,
    seed: int,
    shape: tuple[int, int],
    first: int = 0,
    settings: SamplingSettings | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Draw grids of any shape for images ``first``, ``first + 1``, …, in passes of a fixed size.

    What :func:`~stage2_prior.sampling.sampler.sample_images` is to ``sample``, this is to :func:`sample_larger`.

    Args:
        prior: A prior of one grid of two axes, in eval mode.
        labels: int64 ``[B]``, -1 for "any class"; on the prior's device.
        seed: Of the noise.
        shape: ``(H, W)`` in codes, neither below the training grid's.
        first: Index of the first image.
        settings: How to draw.
        progress: Called after every pass with the number of images in it.

    Returns:
        int64 ``[B, H * W]``.

    Raises:
        ValueError: If the prior has another layout, the shape is too small or the seed out of range.
    """
    settings = settings or SamplingSettings()
    noise = image_noise(seed, range(first, first + len(labels)), shape[0] * shape[1])
    prior = in_precision(prior, settings.precision)

    def draw_pass(labels: Tensor, noise: Tensor) -> Tensor:
        return sample_larger(prior, labels, noise, shape, settings)

    _, window = window_shape(prior, shape)
    abreast = len(set(starts(shape[1], window)))  # windows that hold their state at one time
    size = max(pass_size(prior.layout, labels.device) // abreast, SMALLEST)
    with prior.frozen():
        return in_passes(draw_pass, first, size, labels, noise, progress=progress)


def sample_larger(
    prior: Prior,
    labels: Tensor,
    noise: Tensor,
    shape: tuple[int, int],
    settings: SamplingSettings | None = None,
) -> Tensor:
    """Draw one grid of any shape per label, in raster order.

    Every code is drawn inside a window around it (as in arXiv 2012.09841, section 3.3), from the codes of the window
    that come before it, as if the window were the whole image: windows lie at the grid's borders where the code
    does, so the prior meets borders where it knows them. They move by half a window and each keeps its incremental
    state over all rows that it serves, which makes about three steps of the prior a code, where a window that is
    centred on every code would go through half of itself for each. At the training grid's shape this is
    :func:`~stage2_prior.sampling.sampler.sample`.

    Args:
        prior: A prior of one grid of two axes, in eval mode.
        labels: int64 ``[B]``, -1 for "any class".
        noise: Uniform numbers in [0, 1), float64 ``[B, H * W]``.
        shape: ``(H, W)`` in codes, neither below the training grid's.
        settings: How to draw.

    Returns:
        int64 ``[B, H * W]``.

    Raises:
        ValueError: If the prior has another layout or the shape is too small.
    """
    settings = settings or SamplingSettings()
    prior = in_precision(prior, settings.precision)
    height, width = window_shape(prior, shape)
    noise = noise.to(labels.device).unflatten(1, shape)
    codes = labels.new_full((len(labels), *shape), -1)
    tops, lefts = (starts(*sizes) for sizes in zip(shape, (height, width), strict=True))
    windows: dict[int, Window] = {}  # of the current top, by left
    with torch.inference_mode():
        for row, top in enumerate(tops):
            if row == 0 or top != tops[row - 1]:
                windows = {
                    left: Window(
                        guided(prior, labels, settings.guidance, settings.guidance_schedule),
                        codes[:, top : top + height, left : left + width],
                    )
                    for left in set(lefts)
                }
            for column, left in enumerate(lefts):
                logits = windows[left].logits(row - top, column - left)
                logits = truncate(logits.float() / settings.temperature, settings)
                codes[:, row, column] = draw(logits, noise[:, row, column])
    return codes.flatten(1)


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
    """Where the window starts that serves each position along an axis.

    Windows move by half their size and serve their middle half; the first and the last also serve the ends.
    """
    stride = max(window // 2, 1)
    first = -(-(window - stride) // 2)  # of the middle half
    return [min(max((position - first) // stride * stride, 0), size - window) for position in range(size)]


class Window:
    """A prior's pass through one window of a larger grid.

    Args:
        steps: The prior at its start.
        codes: The window's part ``[B, h, w]`` of the larger grid, a view that fills up.
    """

    def __init__(self, steps: Incremental, codes: Tensor) -> None:
        self.steps = steps
        self.codes = codes
        self.position = 0

    def logits(self, row: int, column: int) -> Tensor:
        """Logits ``[B, K]`` of a place after all those asked for before."""
        width = self.codes.shape[2]
        end = row * width + column
        assert self.position <= end
        for position in range(self.position, end + 1):
            above, left = divmod(position - 1, width)
            logits = self.steps.next_logits(self.codes[:, above, left] if position else None)
        self.position = end + 1
        return logits
