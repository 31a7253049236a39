"""Training of a prior whose parameters are sharded over the processes: FSDP2 (arXiv 2304.11277)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from stage2_prior.lightning_module import PriorTraining
from stage2_prior.prior import Autoregressive


class ShardedPriorTraining(PriorTraining):
    """Trains a prior of which each process holds one shard: of weights, gradients and the optimiser's moments.

    Checkpoints have the same format as those of other trainings. The module trains a copy; the given prior stays on
    the CPU and is unchanged until :meth:`gather` puts the trained weights into it.

    Args:
        model: The prior, or one grid's part of it.
        label_dropout, unigram_entropy, optimization: As for :class:`~stage2_prior.lightning_module.PriorTraining`.
    """

    def __init__(
        self,
        model: Autoregressive,
        label_dropout: float,
        unigram_entropy: float,
        optimization: Callable[[nn.Module, int], Any],
    ) -> None:
        super().__init__(copy.deepcopy(model), label_dropout, unigram_entropy, optimization)

    def configure_model(self) -> None:
        """Shard the prior, layer by layer. Lightning calls this before every training and validation."""
        if isinstance(self.model, FSDPModule):
            return
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        for layer in self.model.sharding_units():
            fully_shard(layer, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def gather(self, prior: Autoregressive) -> None:
        """Put the weights of all ranks into an unsharded prior on rank 0. Every rank must call it."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.model, options=options)
        if weights:
            prior.load_state_dict(weights)


def load_full_state(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load unsharded weights by name into a module, sharded or not."""
    set_model_state_dict(module, dict(weights), options=StateDictOptions(full_state_dict=True))


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together from all ranks' parts; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
