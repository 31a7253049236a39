"""Passes of a fixed size: what is computed for an image does not depend on what is computed beside it.

The last bits of a matrix product depend on the number of its rows, those of attention on the number of threads; and
one bit is enough to turn a code into another, and with it all codes after. So models are given a fixed number of
rows on one thread, and image i stands in row ``i % size``, whichever images are asked for. Several cores compute
several passes at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout

SMALLEST = 16
"""Images in a pass on a CPU: half of them cost four fifths as much, twice as many give a quarter more a second."""

LARGEST = 256
"""Images in a pass at most."""

CODES = 2**16
"""Codes in a pass on a GPU.

Of a transformer of 12 layers and width 768, none of whose heads share keys and values, these take 5 GB in float32.
"""


def pass_size(layout: CodeLayout, device: torch.device) -> int:
    """Images that a prior draws in one pass, a multiple of :data:`SMALLEST`: a function of layout and device alone."""
    if device.type == "cpu":
        return SMALLEST
    return min(max(CODES // layout.length // SMALLEST * SMALLEST, SMALLEST), LARGEST)


def in_passes(
    compute: Callable[..., Tensor],
    first: int,
    size: int,
    *rows: Tensor,
    progress: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """``compute(*rows)``, row by row the same for any rows beside it.

    Args:
        compute: Takes as many tensors ``[size, ...]`` as there are rows and returns one, row by row, without
            gradients; called by several threads at a time.
        first: Index of the first row's image.
        size: Rows of a pass; those that no image asks for are zeros.
        rows: Tensors ``[B, ...]`` of images first to first + B.
        progress: Called after every pass with the number of images in it.

    Returns:
        ``[B, ...]``.
    """
    start = first % size
    stop = start + len(rows[0])
    padded = [_pad(each, start, -stop % size).split(size) for each in rows]

    def alone(*one_pass: Tensor) -> Tensor:
        # Both are settings of the thread.
        torch.set_num_threads(1)
        with torch.no_grad():
            return compute(*one_pass)

    results = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        on_cpu = rows[0].device.type == "cpu"
        # A GPU's kernels run one after another anyway.
        for index, result in enumerate(pool.map(alone, *padded) if on_cpu else map(alone, *padded)):
            results.append(result)
            progress(min(stop, (index + 1) * size) - max(start, index * size))
    return torch.cat(results)[start:stop]


def _pad(rows: Tensor, before: int, after: int) -> Tensor:
    return torch.cat([rows.new_zeros(before, *rows.shape[1:]), rows, rows.new_zeros(after, *rows.shape[1:])])
