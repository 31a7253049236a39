"""The condition of a PixelCNN's grid: the class, and the codes of coarser grids (arXiv 1906.00446)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Condition(nn.Module):
    """The condition of a grid's layers: the class and, through an upsampling residual network, the coarser grids.

    The network goes from grid to grid, coarse to fine (arXiv 1906.00446, section 3.2): codes of grids of one shape are
    embedded and added up, pass residual blocks, and are upsampled to the next shape, where the next ones are added.

    Args:
        shapes: Height and width of the coarser grids, coarse to fine, and of the grid itself.
        channels: Channels of the condition.
        num_classes: Number of classes; the embedding has one more row, the null class.
        coarser: Codebook sizes of the coarser grids.
        blocks: Residual blocks at each resolution.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], channels: int, num_classes: int, coarser: Sequence[int], blocks: int
    ) -> None:
        super().__init__()
        self.label = nn.Embedding(num_classes + 1, channels)
        self.codes = nn.ModuleList(nn.Embedding(size, channels) for size in coarser)
        for embedding in (self.label, *self.codes):
            nn.init.normal_(embedding.weight, std=0.1)
        last = len(coarser) - 1
        self.refinements = nn.ModuleList(
            nn.Identity() if index < last and shape == finer else Refinement(shape, finer, channels, blocks)
            for index, (shape, finer) in enumerate(pairwise(shapes))
        )

    def forward(self, labels: Tensor, coarser: Sequence[Tensor]) -> Tensor:
        """Condition ``[B, C, H, W]`` of class indices ``[B]`` and coarser codes ``[B, h, w]`` each.

        The height and width are those of the grid, or 1 if nothing is coarser.
        """
        label = self.label(labels)[:, :, None, None]
        if not coarser:
            return label
        seen: Tensor | float = 0.0
        for embed, refine, codes in zip(self.codes, self.refinements, coarser, strict=True):
            seen = refine(embed(codes).movedim(3, 1) + seen)
        return label + seen


class Refinement(nn.Module):
    """Residual blocks at one grid's shape, then a learned upsampling to the next one's.

    Every cell becomes a block of cells. Where the finer sides are no multiples of the coarser ones, the last blocks are
    cropped.

    Args:
        shape: ``(h, w)``.
        finer: ``(H, W)``.
        channels: C.
        blocks: Residual blocks.

    Shape: ``[B, C, h, w]`` to ``[B, C, H, W]``.
    """

    def __init__(self, shape: tuple[int, int], finer: tuple[int, int], channels: int, blocks: int) -> None:
        super().__init__()
        self.finer = finer
        times = -(-finer[0] // shape[0]), -(-finer[1] // shape[1])
        upsample = nn.ConvTranspose2d(channels, channels, times, stride=times)
        self.layers = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)), upsample)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x [B, C, h, w]``."""
        height, width = self.finer
        return self.layers(x)[:, :, :height, :width]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, which see to all sides, and the input added to their result.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x [B, C, H, W]``."""
        return x + self.branch(x)
