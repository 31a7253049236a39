"""Exact nearest-neighbour search that never holds the whole distance matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["euclidean", "cosine"]
"""What is near: a small distance, or a small angle."""

CPU_TILE = 2**20
"""Scores held at once on a CPU (4 MiB in float32: about what its caches hold)."""
GPU_TILE = 2**26
"""Scores held at once on a GPU (256 MiB in float32)."""
COLUMNS = 4096
"""Codes in a tile, at most; a multiple of the run."""
RUN = 64
"""Codes whose maximum is taken before its place is looked for: a maximum costs a tenth of its place."""


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook vector in Euclidean distance, ties to the lowest.

    ``argmin |z - e|²`` is ``argmax z·e - |e|²/2``: a matrix product per tile of points and codes, in a buffer that
    all tiles share. Always in float32, also under autocast and where TensorFloat-32 or bfloat16 products are allowed,
    whose rounding would move codes. Both sides are first shifted by the codebook's centre, so that a codebook far
    from the origin loses no digits.

    Under ``torch.compile`` this is one operator; an exported graph holds plain operators and the whole matrix.

    Args:
        points: ``[N, D]``. One that is not finite gets a code too, which means nothing.
        codebook: ``[K, D]``.

    Returns:
        int64 ``[N]``.
    """
    if torch.compiler.is_exporting():
        with torch.autocast(points.device.type, enabled=False):
            centre = _centre(codebook.float())
            codes = codebook.float() - centre
            return torch.addmm(_offset(codes), _shifted(points, centre), codes.T).argmax(1)
    return _nearest(points, codebook)


def unit_length(vectors: Tensor, dim: int) -> Tensor:
    """Vectors along ``dim`` scaled to length 1; one of length 0 stays, and its gradient is 0."""
    length = vectors.norm(dim=dim, keepdim=True)
    return F.normalize(vectors, dim=dim) * (length > 0)


@torch.library.custom_op("stage1_vqvae::nearest", mutates_args=(), schema="(Tensor points, Tensor codebook) -> Tensor")
def _nearest(points: Tensor, codebook: Tensor) -> Tensor:
    size = len(codebook)
    with torch.autocast(points.device.type, enabled=False), _full_precision():
        centre = _centre(codebook.float())
        codes = F.pad(codebook.float() - centre, (0, 0, 0, -size % RUN))  # [K + padding, D]
        offset = _offset(codes).index_fill_(0, torch.arange(size, len(codes), device=codes.device), -torch.inf)
        columns = min(len(codes), COLUMNS)
        rows = max(1, (CPU_TILE if points.device.type == "cpu" else GPU_TILE) // columns)
        buffer = codes.new_empty(min(rows, len(points)) * columns)
        found = [_best_of(_shifted(tile, centre), codes, offset, buffer) for tile in points.split(rows)]
        return torch.cat(found)


@_nearest.register_fake
def _(points: Tensor, codebook: Tensor) -> Tensor:
    return points.new_empty(len(points), dtype=torch.int64)


def _best_of(points: Tensor, codebook: Tensor, offset: Tensor, buffer: Tensor) -> Tensor:
    """Best code of each of a tile's points, from one tile of codes to the next: int64 ``[R]``."""
    n = len(points)
    best = points.new_full((n,), -torch.inf)
    code = torch.zeros(n, dtype=torch.int64, device=points.device)
    every = torch.arange(n, device=points.device)
    for start in range(0, len(codebook), COLUMNS):
        part = slice(start, min(start + COLUMNS, len(codebook)))
        scores = buffer[: n * (part.stop - start)].view(n, part.stop - start)
        torch.addmm(offset[part], points, codebook[part].T, out=scores)
        runs = scores.view(n, scores.shape[1] // RUN, RUN)
        peak, run = runs.amax(2).max(1)  # of equal ones the first, as argmax below
        place = start + run * RUN + runs[every, run].argmax(1)
        code = torch.where(peak > best, place, code)
        best = torch.maximum(peak, best)
    return code


def _centre(codebook: Tensor) -> Tensor:
    """About the codebook's mean ``[D]``: whole multiples of its spread, so that shifting small integers is exact."""
    if len(codebook) == 1:
        return codebook[0]
    deviation, mean = torch.std_mean(codebook, dim=0, correction=0)
    grain = torch.exp2(deviation.clamp(min=1e-30).log2().ceil())
    return (torch.round(mean / grain) * grain).nan_to_num(0, 0, 0)


def _shifted(points: Tensor, centre: Tensor) -> Tensor:
    return (points.float() - centre).nan_to_num(0, 0, 0)


def _offset(codes: Tensor) -> Tensor:
    return codes.square().sum(1).mul_(-0.5)  # [K]


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TensorFloat-32 or bfloat16 inside of matrix products, whatever the program allows elsewhere."""
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [product.fp32_precision for product in products]
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = precision
