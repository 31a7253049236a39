"""What every quantizer is, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """The result of quantizing ``z [B, D, *spatial]``.

    Attributes:
        vectors: The quantized vectors ``[B, D, *spatial]``, float32; their gradient reaches z.
        codes: Their indices, int64 ``[B, *spatial]``, with a trailing depth axis for residual families.
        loss: The terms that train codebook and encoder towards one another, a scalar.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps continuous vectors to codes and codes back to vectors.

    In eval mode nothing in the module changes, codes are deterministic, and ``lookup(forward(z).codes)`` equals
    ``forward(z).vectors`` exactly. A quantizer computes in float32, also under autocast and in a model that was
    converted to bfloat16: lower precision would move codes.

    Attributes:
        dim: D, the number of channels quantized together.
        codebook_sizes: Number of codes of each depth; one entry but for residual families.
    """

    dim: int
    codebook_sizes: tuple[int, ...]

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes`` as :meth:`forward` returned them."""

    def step(self) -> None:
        """Apply what the forward passes since the last call have gathered, once per optimiser step, on all ranks.

        Codebooks change here and nowhere else, so that micro-batches accumulate like one large batch, a skipped
        optimiser step skips the update, and search and lookup of one pass use one codebook. A quantizer made of
        others passes the call on.
        """

    def discard(self) -> None:
        """Forget what the forward passes since the last step have gathered: theirs was skipped, on all ranks.

        A quantizer made of others passes the call on.
        """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follow the model to another device, but not to another precision."""

        def moved(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            return tensor.to(converted.device) if tensor.dtype == torch.float32 != converted.dtype else converted

        return super()._apply(moved, recurse)
