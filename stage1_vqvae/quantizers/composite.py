"""What quantizers made of several others share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantizer


class Composite(Quantizer):
    """Several copies of one quantizer, each with a random start of its own.

    Codes carry the copies along a trailing axis, unless there is a single one of a single codebook. Where a copy is
    itself made of several, its codes follow one another on that axis.

    Args:
        quantizer: What is copied.
        count: How many copies, at least 1.
    """

    def __init__(self, quantizer: Quantizer, count: int) -> None:
        super().__init__()
        copies = [quantizer, *(copy.deepcopy(quantizer) for _ in range(count - 1))]
        for other in copies[1:]:
            for module in other.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        self.quantizers = nn.ModuleList(copies)
        self.codebook_sizes = quantizer.codebook_sizes * count

    def parts(self) -> list[Quantizer]:
        """The copies."""
        return [cast(Quantizer, quantizer) for quantizer in self.quantizers]

    def step(self) -> None:
        """Step every copy."""
        for quantizer in self.parts():
            quantizer.step()

    def discard(self) -> None:
        """Let every copy forget."""
        for quantizer in self.parts():
            quantizer.discard()

    def _join(self, codes: Sequence[Tensor]) -> Tensor:
        """The copies' codes as one tensor: ``[B, *spatial, depth]``."""
        if len(self.codebook_sizes) == 1:
            return codes[0]
        return torch.cat(list(codes), dim=-1) if self._deep() else torch.stack(list(codes), dim=-1)

    def _split(self, codes: Tensor) -> Sequence[Tensor]:
        """The inverse of :meth:`_join`."""
        if len(self.codebook_sizes) == 1:
            return [codes]
        return codes.chunk(len(self.quantizers), dim=-1) if self._deep() else codes.unbind(-1)

    def _deep(self) -> bool:
        """Whether the copies' own codes have a trailing axis."""
        return len(self.parts()[0].codebook_sizes) > 1
