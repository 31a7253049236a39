"""The one tensor that crosses between the stages, and the value that says how to read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class CodeLayout:
    """How to read codes ``[B, T]``: which grid each position belongs to, and how many codes that grid has.

    A plain VQ-VAE has one grid, VQ-VAE-2 (arXiv 1906.00446) one per level from coarse to fine, residual
    quantization of depth d has d grids of one shape. Grids lie one after another in the sequence, each in
    raster order (last axis fastest).

    Args:
        grids: Shape of each grid, coarse to fine: ``(height, width)`` for images; one or three axes for
            sound and video.
        codebook_sizes: Number of codes of each grid; codes of grid g are in ``[0, codebook_sizes[g])``.

    Raises:
        ValueError: If there is no grid, a shape has not one to three positive axes, or the number of
            codebook sizes is not the number of grids.
    """

    grids: tuple[tuple[int, ...], ...]
    codebook_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "grids", tuple(tuple(int(size) for size in grid) for grid in self.grids))
        object.__setattr__(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        if not self.grids or len(self.grids) != len(self.codebook_sizes):
            raise ValueError(
                f"a layout needs one codebook size per grid and at least one grid, "
                f"got grids {self.grids} and codebook sizes {self.codebook_sizes}"
            )
        for grid in self.grids:
            if not 1 <= len(grid) <= 3 or min(grid) < 1:
                raise ValueError(f"a grid has one to three positive axes, got {grid}")
        if min(self.codebook_sizes) < 1:
            raise ValueError(f"a codebook has at least one code, got sizes {self.codebook_sizes}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of positions of each grid."""
        return tuple(math.prod(grid) for grid in self.grids)

    @property
    def length(self) -> int:
        """T, the number of positions of all grids together."""
        return sum(self.lengths)

    @property
    def in_words(self) -> str:
        """Number, codebook sizes and grids of the codes: ``256 codes of 512 in a 16×16 grid``."""
        grids = " + ".join("×".join(map(str, grid)) for grid in self.grids)
        sizes = " + ".join(map(str, dict.fromkeys(self.codebook_sizes)))
        return f"{self.length} codes of {sizes} in a {grids} grid"

    @property
    def vocabulary(self) -> int:
        """K, the largest codebook size: the width of a prior's logits."""
        return max(self.codebook_sizes)

    def split(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Views ``[B, *grid]`` of ``codes [B, T, ...]``, one per grid. Trailing axes are kept.

        Raises:
            ValueError: If the sequence is not T long.
        """
        if codes.ndim < 2 or codes.shape[1] != self.length:
            raise ValueError(f"codes of shape [B, {self.length}] expected, got {list(codes.shape)}")
        parts = codes.split(self.lengths, dim=1)
        return tuple(part.unflatten(1, grid) for part, grid in zip(parts, self.grids, strict=True))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of :meth:`split`: ``[B, *grid]`` per grid to ``[B, T]``.

        Raises:
            ValueError: If the parts are not of the layout's grids.
        """
        shapes = tuple(tuple(part.shape[1 : 1 + len(g)]) for part, g in zip(parts, self.grids, strict=False))
        if len(parts) != len(self.grids) or shapes != self.grids:
            raise ValueError(f"one part [B, *grid] for each of {self.grids} expected, got {shapes}")
        flat = [part.flatten(1, len(grid)) for part, grid in zip(parts, self.grids, strict=True)]
        return torch.cat(flat, dim=1)

    def codebook_size_at(self) -> Tensor:
        """Codebook size of every position, int64 ``[T]``."""
        pairs = zip(self.codebook_sizes, self.lengths, strict=True)
        return torch.tensor([size for size, length in pairs for _ in range(length)])

    def check(self, codes: Tensor) -> None:
        """Raise ValueError unless every code of ``codes [B, T]`` exists in its grid's codebook."""
        for grid, size, part in zip(self.grids, self.codebook_sizes, self.split(codes), strict=True):
            if part.numel() and (part.min() < 0 or part.max() >= size):
                raise ValueError(
                    f"codes of grid {grid} are 0 to {size - 1}, got {int(part.min())} to {int(part.max())}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for a manifest or a config file."""
        return {"grids": [list(grid) for grid in self.grids], "codebook_sizes": list(self.codebook_sizes)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> CodeLayout:
        """The layout that :meth:`to_dict` wrote."""
        return cls(tuple(tuple(grid) for grid in plain["grids"]), tuple(plain["codebook_sizes"]))


def codes_of(codes: Any, layout: CodeLayout) -> Tensor:
    """Codes of images, int64 ``[B, T]``, all of which exist; arguments as for :func:`integer_codes`.

    Raises:
        ValueError: As :func:`integer_codes`, and if a code does not exist in its codebook.
    """
    flat = integer_codes(codes, layout)
    layout.check(flat)
    return flat


def integer_codes(codes: Any, layout: CodeLayout) -> Tensor:
    """Integers in the shape of codes, int64 ``[B, T]`` on the device that they are on; they need not exist as codes.

    Args:
        codes: Integers of any type, of torch, numpy or nested lists: ``[B, T]``, ``[T]`` of one image, or, of a layout
            with a single grid, ``[B, *grid]`` or ``grid``.
        layout: How they are laid out.

    Raises:
        ValueError: If they are no integers, of another shape or of no image.
    """
    try:
        found = torch.as_tensor(np.asarray(codes) if isinstance(codes, list | tuple) else codes)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"codes: integers [B, {layout.length}] expected, got {type(codes).__name__}") from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"codes: integers [B, {layout.length}] expected, got {found.dtype} {list(found.shape)}")
    flat = _flat(found, layout).to(torch.int64)
    if len(flat) == 0:
        raise ValueError("codes: at least one image's expected, got none")
    return flat


def _flat(codes: Tensor, layout: CodeLayout) -> Tensor:
    shape = tuple(codes.shape)
    if len(layout.grids) == 1 and len(layout.grids[0]) > 1 and shape[-len(layout.grids[0]) :] == layout.grids[0]:
        codes = codes.flatten(-len(layout.grids[0]))
    if codes.ndim == 1:
        codes = codes[None]
    if codes.ndim != 2 or codes.shape[1] != layout.length:
        grid = f" or [B, {', '.join(map(str, layout.grids[0]))}]" if len(layout.grids) == 1 else ""
        raise ValueError(f"codes: integers [B, {layout.length}]{grid} expected, got shape {list(shape)}")
    return codes
