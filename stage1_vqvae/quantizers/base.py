"""The interface of quantizers, and what their forward pass returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Quantized(NamedTuple):
    """The result of quantizing ``z [B, D, *spatial]``: ``vectors, codes, loss = quantizer(z)``.

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

    Vectors are ``[B, D, *spatial]`` with any number of spatial axes, none among them: ``[N, D]`` is a list of vectors.
    :class:`~stage1_vqvae.quantizers.ChannelLast` takes ``[B, *spatial, D]``.

    In eval mode nothing in the module changes, codes are deterministic, and ``lookup(forward(z).codes)`` equals
    ``forward(z).vectors`` exactly. A quantizer computes in float32, also under autocast and in a model that was
    converted to bfloat16: lower precision would move codes. A training step reads nothing back from the device,
    apart from the first one on several ranks and the first one after loading a state.

    A subclass sets the attributes, defines :meth:`forward` and :meth:`lookup`, and :meth:`reset_parameters` if it has
    any state. Its loss weighs the term that commits the encoder to the codes by :attr:`commitment_cost`.

    Attributes:
        dim: D, the number of channels quantized together.
        codebook_sizes: Number of codes of each depth; one entry but for residual families.
        commitment_cost: β, weight of the term that pulls the encoder's vectors to their codes; 0 for none.
        is_frozen: Whether :meth:`freeze` was called.
    """

    dim: int
    codebook_sizes: tuple[int, ...]
    commitment_cost: float = 0.0
    is_frozen: bool = False

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes`` as :meth:`forward` returned them."""

    def reset_parameters(self) -> None:
        """Draw a new random start of everything that is learned.

        Quantizers made of several copies of one call it on each copy, which would otherwise all learn the same.

        Raises:
            ValueError: If the quantizer has parameters or buffers and does not define this method.
        """
        if self.state_dict():
            raise ValueError(
                f"{type(self).__name__} has parameters or buffers but no reset_parameters(): define it, so that every "
                "copy of the quantizer gets a random start of its own"
            )

    def drop_commitment(self) -> None:
        """Leave the commitment term out of the loss, for whoever adds one of its own.

        A quantizer made of others passes the call on.
        """
        self.commitment_cost = 0.0

    def step(self) -> None:
        """Apply what the forward passes since the last call have gathered, once per optimiser step, on all ranks.

        Codebooks change here and nowhere else by themselves, so that micro-batches accumulate like one large batch, a
        skipped optimiser step skips the update, and search and lookup of one pass use one codebook. A quantizer made of
        others passes the call on.
        """

    def discard(self) -> None:
        """Forget what the forward passes since the last step have gathered: theirs was skipped, on all ranks.

        A quantizer made of others passes the call on.
        """

    def step_after(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Call :meth:`step` after every step of ``optimizer`` from now on, for training loops outside of this project.

        Returns:
            A handle; its ``remove()`` ends this.
        """
        return optimizer.register_step_post_hook(lambda *_: self.step())

    def freeze(self) -> None:
        """Keep everything learned as it is, in training too: no start at the data, no step, no gradient."""
        self._set_frozen(True)

    def unfreeze(self) -> None:
        """Undo :meth:`freeze`."""
        self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        for module in self.modules():
            if isinstance(module, Quantizer):
                module.is_frozen = frozen
                module.discard()
        self.requires_grad_(not frozen)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follow the model to another device, but not to another precision."""

        def moved(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            return tensor.to(converted.device) if tensor.dtype == torch.float32 != converted.dtype else converted

        return super()._apply(moved, recurse)
