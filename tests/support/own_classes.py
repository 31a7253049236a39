"""Classes of a user's own, as a configuration names them by ``_target_``."""

import os
import signal
import sys
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback

from pipelines.distributed import collectives
from stage1_vqvae.data import Mnist5k
from stage1_vqvae.quantizers.base import Quantizer
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.transformer.model import Transformer


class NegativeDigits(Mnist5k):
    """A data set: the digits of ``mnist5k``, a source that somebody named anew."""


class HalfCommitted(EMAVectorQuantizer):
    """A quantizer that needs fewer keys than the one it comes from."""

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__(dim, codebook_size, commitment_cost=0.5)


class WideTransformer(Transformer):
    """A prior."""


class CountSteps(Callback):
    """A callback that writes how often it was called."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.steps = 0

    def on_train_batch_end(self, *arguments: object) -> None:
        self.steps += 1
        np.savetxt(self.file, [self.steps])


class LogLearningRate(Callback):
    """A callback that changes nothing in the model."""

    only_logs = True

    def on_train_batch_end(self, trainer, pl_module, *arguments: object) -> None:
        pl_module.log("train/learning_rate", trainer.optimizers[0].param_groups[0]["lr"])


class Fail(Callback):
    """A callback that ends a training after its first step."""

    def on_train_batch_end(self, *arguments: object) -> None:
        raise RuntimeError("out of luck")


class Exit(Callback):
    """A callback that ends the process that makes it."""

    def __init__(self) -> None:
        sys.exit(3)


class KillRank(Callback):
    """A callback that kills one process of several after its first step."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_end(self, *arguments: object) -> None:
        if collectives.rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


class NoCallback(torch.nn.Identity):
    """Not a callback."""


class ReadsWeights(VQVAE):
    """A tokenizer that looks at its weights as it is made, which weights without values do not allow."""

    def __init__(
        self, image_size: tuple[int, int], channels: int, quantizer: Quantizer, downsample_factor: int = 4, **more: Any
    ) -> None:
        super().__init__(image_size, channels, quantizer, downsample_factor=downsample_factor, **more)
        self.largest = max(float(weight.abs().max()) for weight in self.parameters())
