"""Codes with some replaced by near ones, as a prior that errs replaces them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout

LARGEST = 2**16
"""Codes of a codebook in which neighbours are looked for: every vector is compared with every other."""

DISTANCES = 2**24
"""Distances held at once (64 MiB)."""


class CodeNoise(nn.Module):
    """Replaces some codes by near neighbours (latent perturbation, arXiv 2509.12474, section 3.2).

    Each code is replaced with the same probability, independently of all others. In its place comes one of the nearest
    other codes of its codebook, each as likely as the others; distances are Euclidean, between the vectors that the
    codes stand for. A codebook of one code is left alone.

    Random numbers are those of torch's generator of the codes' device.

    Args:
        layout: Of the codes.
        codebooks: Vectors ``[K, D]`` of each grid, as :meth:`~stage1_vqvae.tokenizer.Tokenizer.codebooks` gives them.
        share: Of the codes that are replaced, in [0, 1].
        neighbours: How many of the nearest codes another one is drawn from; all others of a smaller codebook.

    Raises:
        ValueError: If the share is none, or there is no neighbour to draw.
    """

    def __init__(self, layout: CodeLayout, codebooks: Sequence[Tensor], share: float, neighbours: int = 8) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"noise is a share of codes in [0, 1], got {share}")
        if neighbours < 1:
            raise ValueError(f"neighbours is at least 1, got {neighbours}")
        self.layout = layout
        self.share = share
        for grid, codebook in enumerate(codebooks):
            self.register_buffer(f"neighbours_{grid}", nearest_others(codebook, neighbours), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``[B, T]`` with some replaced."""
        return self.layout.join([self._replaced(part, grid) for grid, part in enumerate(self.layout.split(codes))])

    def _replaced(self, codes: Tensor, grid: int) -> Tensor:
        others: Tensor = self.get_buffer(f"neighbours_{grid}")
        if others.shape[1] == 0:
            return codes
        chosen = torch.rand(codes.shape, device=codes.device) < self.share
        which = torch.randint(others.shape[1], codes.shape, device=codes.device)
        return torch.where(chosen, others[codes, which], codes)


def check_codebooks(sizes: Sequence[int]) -> None:
    """Raise ValueError if a codebook is too large to look for neighbours in."""
    for grid, size in enumerate(sizes):
        if size > LARGEST:
            raise ValueError(
                f"noise: grid {grid} has {size:,} codes, neighbours are found among {LARGEST:,} at most: give noise=0"
            )


@torch.no_grad()
def nearest_others(codebook: Tensor, count: int) -> Tensor:
    """The nearest other codes of each code, nearest first: int64 ``[K, count]``, or ``[K, K - 1]`` of fewer codes.

    Args:
        codebook: Vectors ``[K, D]``.
        count: How many.
    """
    vectors, size = codebook.float(), len(codebook)
    found = []
    for rows in torch.arange(size, device=codebook.device).split(max(1, DISTANCES // size)):
        # Not by way of the scalar product, which rounds away what sets near vectors apart.
        distances = torch.cdist(vectors[rows], vectors, compute_mode="donot_use_mm_for_euclid_dist")
        distances.scatter_(1, rows[:, None], torch.inf)  # itself
        found.append(distances.topk(min(count, size - 1), largest=False).indices)
    return torch.cat(found)
