"""A gated PixelCNN over the layout's grids (arXiv 1606.05328), finer grids conditioned on coarser ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage2_prior.frozen import frozen
from stage2_prior.pixelcnn.cache import CachedPixelCNN
from stage2_prior.pixelcnn.conditioning import Condition
from stage2_prior.pixelcnn.level import PixelCNNLevel
from stage2_prior.pixelcnn.stack import GatedStack
from stage2_prior.prior import Prior


class PixelCNN(Prior):
    """A :class:`~stage2_prior.pixelcnn.stack.GatedStack` per grid, conditioned on the class and on all coarser grids.

    The arguments that shape a stack are one value for all grids or a list with one for each, coarse to fine.

    Args:
        layout: How the codes are laid out; grids of one axis are taken as a single row.
        num_classes: Number of classes; 0 for a prior without labels.
        width: Channels of the vertical and of the horizontal stack.
        layers: Gated layers of each grid's stack.
        kernel: Side of the kernels that the cropped ones are part of, odd and at least 3. With
            r = ``layers * (kernel // 2)``, a position sees r + 1 rows above, r columns to either side in them,
            and r + 1 positions to its left.
        dropout: On what each gated layer adds to the horizontal stack.
        coarse_blocks: Residual blocks that coarser grids go through, at each of their resolutions.
        attention_every: Self-attention after every so many layers, with which a position sees all codes of its grid
            before it; None for no attention.
        heads: Attention heads.
        activation_checkpointing: Whether activations inside a gated layer are computed again in the backward pass:
            less memory in training, more time, the same numbers (arXiv 1604.06174).

    Raises:
        ValueError: If the kernel is even or less than 3, a grid has three axes, a list has not one value for
            each grid, or the attention does not fit the layers and the width.
    """

    def __init__(
        self,
        layout: CodeLayout,
        num_classes: int = 0,
        *,
        width: int | Sequence[int] = 64,
        layers: int | Sequence[int] = 12,
        kernel: int | Sequence[int] = 3,
        dropout: float | Sequence[float] = 0.1,
        coarse_blocks: int | Sequence[int] = 2,
        attention_every: int | Sequence[int | None] | None = None,
        heads: int | Sequence[int] = 4,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(layout, num_classes)
        shaped = {
            "width": width,
            "layers": layers,
            "kernel": kernel,
            "dropout": dropout,
            "coarse_blocks": coarse_blocks,
            "attention_every": attention_every,
            "heads": heads,
        }
        each = {name: per_grid(name, value, len(layout.grids)) for name, value in shaped.items()}
        self.stacks = nn.ModuleList(
            grid_stack(
                layout,
                grid,
                num_classes,
                **{name: values[grid] for name, values in each.items()},
                activation_checkpointing=activation_checkpointing,
            )
            for grid in range(len(layout.grids))
        )

    @property
    def grid_stacks(self) -> list[GatedStack]:
        """The stacks of the grids in order."""
        return [stack for stack in self.stacks if isinstance(stack, GatedStack)]

    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']`` and class indices ``labels [B]``."""
        logits: list[Tensor] = []
        coarser: list[Tensor] = []
        ends = list(accumulate(self.layout.lengths))
        for stack, own in zip(self.grid_stacks, codes.tensor_split(ends[:-1], dim=1), strict=True):
            if own.shape[1] == 0:
                break  # the prefix ends before this grid
            rows = -(-own.shape[1] // stack.shape[1])
            missing = rows * stack.shape[1] - own.shape[1]
            grid = F.pad(own, (0, missing)).unflatten(1, (rows, -1))  # [B, rows, W]
            found = stack(grid, stack.condition(labels, coarser)).flatten(1, 2)[:, : own.shape[1]]
            logits.append(F.pad(found, (0, self.layout.vocabulary - found.shape[2])))
            coarser.append(grid)
        return torch.cat(logits, dim=1)

    def level(self, grid: int) -> PixelCNNLevel:
        """One grid's stack, to be trained apart from the others.

        Raises:
            ValueError: If there is no such grid.
        """
        if not 0 <= grid < len(self.stacks):
            raise ValueError(f"grids are 0 to {len(self.stacks) - 1}, coarse to fine, got level {grid}")
        return PixelCNNLevel(self.grid_stacks[grid], self.layout, grid, self.num_classes)

    def incremental(self, labels: Tensor) -> CachedPixelCNN:
        """The prior at the start of drawing codes for ``labels [B]``; an image costs about one forward pass."""
        index = self.class_index(labels, len(labels), labels.device)
        return CachedPixelCNN(self, self.layout, self.grid_stacks, index)

    def trial_logits(self, labels: Tensor, codes: Tensor) -> Tensor:
        """Logits ``[P, B, K]`` of a few positions, computed as :meth:`incremental` does."""
        return self.incremental(labels).trial_logits(codes)

    def frozen(self) -> AbstractContextManager[None]:
        """Incremental forms that begin inside share one copy of the weights, laid out for them."""
        return frozen(self)

    def sharding_units(self) -> list[nn.Module]:
        """The gated layers of all stacks."""
        return [layer for stack in self.grid_stacks for layer in stack.layers]


def per_grid(name: str, value: Any, grids: int) -> Sequence[Any]:
    """One value for each grid, coarse to fine, of a list or of one value for all.

    Raises:
        ValueError: If a list has not one for each.
    """
    if not isinstance(value, Sequence):
        return [value] * grids
    if len(value) != grids:
        raise ValueError(f"{name}: one value, or one for each of {grids} grids, coarse to fine, got {list(value)}")
    return value


def grid_stack(
    layout: CodeLayout, grid: int, num_classes: int, *, width: int, coarse_blocks: int, **shape: Any
) -> GatedStack:
    """The stack of one of a layout's grids.

    Args:
        layout: How the codes are laid out.
        grid: Number of the grid.
        num_classes: Number of classes.
        width: Channels of the stack and of its condition.
        coarse_blocks: Residual blocks at each resolution of the coarser grids.
        shape: Further arguments of :class:`~stage2_prior.pixelcnn.stack.GatedStack`.
    """
    shapes = [plane(each) for each in layout.grids[: grid + 1]]
    *coarser, own = layout.codebook_sizes[: grid + 1]
    condition = Condition(shapes, width, num_classes, coarser, coarse_blocks)
    return GatedStack(shapes[-1], own, condition, width, **shape)


def plane(grid: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a grid of one or two axes; one axis is a row.

    Raises:
        ValueError: If it has three.
    """
    if len(grid) > 2:
        raise ValueError(f"a PixelCNN takes grids of one or two axes, got {grid}: use a transformer")
    *_, height, width = (1, *grid)
    return height, width
