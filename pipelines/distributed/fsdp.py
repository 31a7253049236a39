"""Training of a prior whose parameters are sharded over the processes: FSDP2 (arXiv 2304.11277)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from pipelines.distributed import collectives
from pipelines.distributed.devices import made_on_meta
from stage2_prior.lightning_module import PriorTraining
from stage2_prior.prior import Autoregressive

Made = TypeVar("Made", bound=nn.Module)

AS_THEY_ARE = MixedPrecisionPolicy()
"""Weights are put together, and gradients added up, in the precision that they are held in."""


class ShardedPriorTraining(PriorTraining):
    """Trains a prior of which each process holds one shard: of weights, gradients and the optimiser's moments.

    Checkpoints have the same format as those of other trainings. The given prior stays on the CPU and is unchanged
    until :meth:`gather` puts the trained weights into it. It is read on rank 0 alone; the others may have it on the
    meta device, see :func:`built_on_first`. What is trained has no memory before it is sharded.

    Args:
        model: The prior, or one grid's part of it.
        label_dropout, unigram_entropy, optimization, random_order: As for
            :class:`~stage2_prior.lightning_module.PriorTraining`.
        policy: Precision of weights that are put together from shards, and of sums of gradients.
    """

    def __init__(
        self,
        model: Autoregressive,
        label_dropout: float,
        unigram_entropy: float,
        optimization: Callable[[nn.Module, int], Any],
        random_order: Sequence[float] | None = None,
        policy: MixedPrecisionPolicy = AS_THEY_ARE,
    ) -> None:
        super().__init__(without_weights(model), label_dropout, unigram_entropy, optimization, random_order)
        self.policy = policy
        self._start = [model]  # in a list, as a module's own modules are trained

    def configure_model(self) -> None:
        """Shard the prior, layer by layer, and give each rank its shards of rank 0's weights.

        Lightning calls this before every training and validation.
        """
        if isinstance(self.model, FSDPModule):
            return
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        for layer in self.model.sharding_units():
            fully_shard(layer, mesh=mesh, mp_policy=self.policy)
        fully_shard(self.model, mesh=mesh, mp_policy=self.policy)
        start = self._start.pop()
        self.model.to_empty(device=torch.device(mesh.device_type))
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        first = collectives.rank() == 0
        set_model_state_dict(self.model, start.state_dict() if first else {}, options=options)
        values = collectives.from_first([*start.buffers()] if first else [])  # those that no state dict holds too
        for buffer, value in zip(self.model.buffers(), values, strict=True):
            buffer.copy_(value)

    def gather(self, prior: Autoregressive) -> None:
        """Put the weights of all ranks into an unsharded prior on rank 0. Every rank must call it."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.model, options=options)
        if weights:
            prior.load_state_dict(weights)


def shard_policy(precision: str) -> MixedPrecisionPolicy:
    """How shards are put together in a training of a precision, as Lightning names it.

    With ``bf16-mixed`` weights travel and compute in bfloat16, half of what float32 takes. Shards, moments and sums of
    gradients stay in float32. What a layer gets is left to autocast: rotations of positions must not be rounded.
    """
    if precision != "bf16-mixed":
        return AS_THEY_ARE
    return MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)


def without_weights(model: Autoregressive) -> Autoregressive:
    """A copy of a module whose parameters are on the meta device, where they take no memory."""
    absent = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, absent)


def built_on_first(make: Callable[[], Made]) -> Made:
    """What a function makes: in memory on rank 0, on the meta device on the other ranks, if it can be made there."""
    return make() if collectives.rank() == 0 else made_on_meta(make)


def load_full_state(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load unsharded weights by name into a module, sharded or not."""
    set_model_state_dict(module, dict(weights), options=StateDictOptions(full_state_dict=True))


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together from all ranks' parts; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
