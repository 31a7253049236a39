"""Codes chosen by the image that they decode to, not by the encoder alone (analysis by synthesis)."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from stage1_vqvae.levels import LevelTokenizer
from stage1_vqvae.quantizers.search import nearest
from stage1_vqvae.tokenizer import Tokenizer

APART = 3
"""Places that change at once are so many apart; each is judged by the APART × APART places around it."""

AT_ONCE = 32
"""Images whose gradients are taken at once, as in training; a backward pass needs far more memory than a forward."""


def refined(tokenizer: Tokenizer, images: Tensor, codes: Tensor, sweeps: int = 1) -> Tensor:
    """Exchange codes where this brings the decoded image nearer to the image, in squared error.

    An encoder chooses the nearest vector at each place alone, but a decoder draws a patch from several. A sweep visits
    all places. A vector e that becomes e + δ changes the error of the image by about ``g·δ + κ|δ|²``, where g is the
    error's gradient there, and κ is measured on each image. That is least for the codebook's vector nearest to
    ``e - g / 2κ``, which is tried. It is taken where the error around its place falls; what was taken at once stays
    where the error of the whole image falls. So no image gets worse, and its codes do not depend on the other images,
    but for rounding.

    Args:
        tokenizer: In eval mode.
        images: ``[B, C, H, W]`` in [-1, 1].
        codes: Where to begin, ``[B, T]``, as :meth:`~stage1_vqvae.tokenizer.Tokenizer.encode` gives them.
        sweeps: How often all places are visited. A sweep of one grid takes about as long as 36 forward passes of the
            decoder.

    Returns:
        Codes, int64 ``[B, T]``.

    Raises:
        ValueError: If sweeps is negative, or codes of the tokenizer stand for no vectors.
    """
    if sweeps < 0:
        raise ValueError(f"refine is a number of sweeps, 0 or more, got {sweeps}")
    if sweeps == 0:
        return codes
    if not isinstance(tokenizer, LevelTokenizer):
        raise ValueError(f"refine: codes of {type(tokenizer).__name__} stand for no vectors: leave refine at 0")
    pairs = zip(images.split(AT_ONCE), codes.split(AT_ONCE), strict=True)
    return torch.cat([_refined(tokenizer, *pair, sweeps) for pair in pairs])


def _refined(tokenizer: LevelTokenizer, images: Tensor, codes: Tensor, sweeps: int) -> Tensor:
    search = _Search(tokenizer, images, codes)
    for _ in range(sweeps):
        for grid in range(len(tokenizer.layout.grids)):
            for row, column in product(range(APART), repeat=2):
                search.visit(grid, row, column)
    return search.codes


class _Search:
    """Codes of some images, and the errors of what they decode to."""

    def __init__(self, tokenizer: LevelTokenizer, images: Tensor, codes: Tensor) -> None:
        self.tokenizer = tokenizer
        self.images = images
        self.codebooks = tokenizer.codebooks()
        self.codes = codes
        self.errors, self.gradients = self._errors_and_gradients(codes)
        self.curvatures = [self._curvature(grid) for grid in range(len(self.codebooks))]

    @torch.no_grad()
    def visit(self, grid: int, row: int, column: int) -> None:
        """Try another code at every APART-th place of a grid, from a row and a column on."""
        places = self._places(grid, row, column)  # [n] of T
        codebook, own = self.codebooks[grid], self.codes[:, places]  # [K, D], [B, n]
        wished = codebook[own] - self._gradient(grid, places) / (2 * self.curvatures[grid])  # [B, n, D]
        found = nearest(wished.flatten(0, 1), codebook).view_as(own)
        falls = self._change_around(grid, places, found) < 0
        self._take(self._with(places, torch.where(falls, found, own)))

    def _take(self, codes: Tensor) -> None:
        """Give these codes to the images whose error falls by them."""
        errors, gradients = self._errors_and_gradients(codes)
        falls = errors.flatten(1).sum(1) < self.errors.flatten(1).sum(1)  # [B]

        def where_it_falls(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(falls.view(-1, *[1] * (new.ndim - 1)), new, old)

        self.codes = where_it_falls(codes, self.codes)
        self.errors = where_it_falls(errors, self.errors)
        self.gradients = [where_it_falls(*pair) for pair in zip(gradients, self.gradients, strict=True)]

    @torch.no_grad()
    def _curvature(self, grid: int) -> Tensor:
        """κ of each image ``[B, 1, 1]``, by some places of a grid whose codes become others."""
        places = self._places(grid, 0, 0)
        codebook, own = self.codebooks[grid], self.codes[:, places]
        others = (own + 1) % len(codebook)  # as good as any: what the gradient does not tell is what is looked for
        change = codebook[others] - codebook[own]  # [B, n, D]
        expected = (self._gradient(grid, places) * change).sum((1, 2))  # [B]
        curved = self._change_around(grid, places, others).sum(1) - expected
        kappa = curved / change.square().sum((1, 2))
        return torch.where(kappa > 0, kappa, torch.inf).view(-1, 1, 1)  # without one, no change is promised

    def _change_around(self, grid: int, places: Tensor, codes: Tensor) -> Tensor:
        """How the error around some places of a grid changes, ``[B, n]``, by other codes ``[B, n]`` at all of them."""
        errors = self._errors_of(self.tokenizer.latents(self._with(places, codes)))
        return self._around(grid, places, errors - self.errors)

    def _errors_and_gradients(self, codes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Errors of the pixels, and the gradient of each image's error in the latents of each level."""
        with torch.inference_mode(False), torch.enable_grad():  # also where the caller's mode has no gradients
            latents = [level.detach().requires_grad_() for level in self.tokenizer.latents(codes)]
            errors = self._errors_of(latents)
            return errors.detach(), list(torch.autograd.grad(errors.sum(), latents))

    def _errors_of(self, latents: list[Tensor]) -> Tensor:
        """Squared error of every pixel, ``[B, H, W]``, summed over channels, of the latents of each level."""
        return (self.tokenizer.images_of(latents) - self.images).square().sum(1)

    def _places(self, grid: int, row: int, column: int) -> Tensor:
        """Indices ``[n]`` of T: every APART-th place of a grid from a row and a column on."""
        layout = self.tokenizer.layout
        indices = torch.arange(layout.length, device=self.codes.device)
        return layout.split(indices[None])[grid][0, row::APART, column::APART].flatten()

    def _with(self, places: Tensor, codes: Tensor) -> Tensor:
        """Today's codes, with others ``[B, n]`` at some places."""
        return self.codes.index_copy(1, places, codes)

    def _gradient(self, grid: int, places: Tensor) -> Tensor:
        """The gradient at some places of a grid, ``[B, n, D]``."""
        at = places - sum(self.tokenizer.layout.lengths[:grid])
        return rearrange(self.gradients[self._level(grid)], "b d h w -> b (h w) d")[:, at]

    def _around(self, grid: int, places: Tensor, pixels: Tensor) -> Tensor:
        """Sums ``[B, n]`` of ``pixels [B, H, W]`` over APART × APART places around each of some places of a grid."""
        cell, padding = self.tokenizer.cells[self._level(grid)], self.tokenizer.padding
        padded = F.pad(pixels, (padding,) * 4)
        cells = F.avg_pool2d(padded[:, None], cell, divisor_override=1)
        sums = F.avg_pool2d(cells, APART, stride=1, padding=APART // 2, divisor_override=1)
        return sums.flatten(1)[:, places - sum(self.tokenizer.layout.lengths[:grid])]

    def _level(self, grid: int) -> int:
        """The level of latents that a grid of codes is of."""
        return [level for level, sizes in enumerate(self.tokenizer.sizes) for _ in sizes][grid]
