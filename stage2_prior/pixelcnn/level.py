"""One grid of a PixelCNN by itself, to be trained apart from the others (VQ-VAE-2, arXiv 1906.00446, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.stack import GatedStack
from stage2_prior.prior import Autoregressive, class_index


class PixelCNNLevel(Autoregressive):
    """``p(codes of one grid | codes of coarser grids, label)``.

    It shares its stack with the PixelCNN: what is trained here is trained there.

    Args:
        stack: The grid's stack.
        layout: Of the codes of all grids.
        grid: Number of the grid, 0 for the coarsest.
        num_classes: Number of classes.

    Attributes:
        layout: Of this grid's codes alone.
    """

    def __init__(self, stack: GatedStack, layout: CodeLayout, grid: int, num_classes: int) -> None:
        super().__init__()
        self.stack = stack
        self.layout = CodeLayout((layout.grids[grid],), (layout.codebook_sizes[grid],))
        self.num_classes = num_classes
        self.whole = layout
        self.grid = grid

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits ``[B, t, K]`` of the grid's t positions, given ``codes [B, T]``; finer grids are not read."""
        parts = self.whole.split(codes)[: self.grid + 1]
        *coarser, own = [part if part.ndim == 3 else part[:, None] for part in parts]  # one axis is a row
        index = class_index(labels, self.num_classes, len(codes), codes.device)
        return self.stack(own, self.stack.condition(index, coarser)).flatten(1, 2)

    def targets(self, codes: Tensor) -> Tensor:
        """The grid's codes ``[B, t]``, of ``codes [B, T]`` of all grids."""
        return self.whole.split(codes)[self.grid].flatten(1)

    def sharding_units(self) -> list[nn.Module]:
        """The gated layers."""
        return [*self.stack.layers]
