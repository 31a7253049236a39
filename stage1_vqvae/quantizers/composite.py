"""What quantizers made of others share."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantizer


class Composite(Quantizer):
    """A quantizer made of others, to which it passes on whatever concerns what they learn."""

    @abstractmethod
    def parts(self) -> list[Quantizer]:
        """The quantizers that it is made of."""

    def reset_parameters(self) -> None:
        """Draw a new random start of every part."""
        for quantizer in self.parts():
            quantizer.reset_parameters()

    def drop_commitment(self) -> None:
        """Leave every part's commitment term out of the loss."""
        super().drop_commitment()
        for quantizer in self.parts():
            quantizer.drop_commitment()

    def step(self) -> None:
        """Step every part."""
        for quantizer in self.parts():
            quantizer.step()

    def discard(self) -> None:
        """Let every part forget the passes since the last step."""
        for quantizer in self.parts():
            quantizer.discard()


class Wrapper(Composite):
    """A quantizer around another one.

    Args:
        quantizer: The inner one.
        dim: D of the outer one.
        times: How often the inner one's codes occur.
    """

    def __init__(self, quantizer: Quantizer, dim: int, times: int = 1) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.dim = dim
        self.codebook_sizes = quantizer.codebook_sizes * times

    def parts(self) -> list[Quantizer]:
        """The inner quantizer."""
        return [self.quantizer]


class Copies(Composite):
    """Several copies of one quantizer, each with a random start of its own.

    Codes carry the copies along a trailing axis, unless there is a single one of a single codebook. Where a copy is
    itself made of several, its codes follow one another on that axis.

    Args:
        quantizer: The first copy.
        count: How many copies, at least 1.

    Raises:
        ValueError: If the quantizer has parameters or buffers but no ``reset_parameters``.
    """

    def __init__(self, quantizer: Quantizer, count: int) -> None:
        super().__init__()
        others = [copy.deepcopy(quantizer) for _ in range(count - 1)]
        for other in others:
            other.reset_parameters()
        self.quantizers = nn.ModuleList([quantizer, *others])
        self.codebook_sizes = quantizer.codebook_sizes * count

    def parts(self) -> list[Quantizer]:
        """The copies."""
        return [cast(Quantizer, quantizer) for quantizer in self.quantizers]

    def _join(self, codes: Sequence[Tensor]) -> Tensor:
        """The copies' codes as one tensor: ``[B, *spatial, depth]``."""
        if len(self.codebook_sizes) == 1:
            return codes[0]
        return torch.cat(list(codes), dim=-1) if self._depth_of_each() > 1 else torch.stack(list(codes), dim=-1)

    def _split(self, codes: Tensor) -> Sequence[Tensor]:
        """The inverse of :meth:`_join`, for the codes of all copies or of the first ones."""
        if len(self.codebook_sizes) == 1:
            return [codes]
        return codes.split(self._depth_of_each(), dim=-1) if self._depth_of_each() > 1 else codes.unbind(-1)

    def _depth_of_each(self) -> int:
        """Codebooks of one copy."""
        return len(self.parts()[0].codebook_sizes)
