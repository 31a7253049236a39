"""Training of a prior: the LightningModule around any of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from stage2_prior.prior import NO_LABEL, Prior


class PriorTraining(LightningModule):
    """Trains a prior by maximum likelihood.

    Batches hold ``codes`` int64 ``[B, T]`` and ``labels`` int64 ``[B]``.

    Args:
        model: The prior.
        label_dropout: Share of labels hidden in training, so that the prior also learns "any class" and sampling
            can be guided (arXiv 2207.12598).
        unigram_entropy: Entropy of the training codes' frequencies in nats per code, logged beside the prior's.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
    """

    def __init__(
        self,
        model: Prior,
        label_dropout: float,
        unigram_entropy: float,
        optimization: Callable[[nn.Module, int], Any],
    ) -> None:
        super().__init__()
        if not 0 <= label_dropout <= 1:
            raise ValueError(f"label_dropout is in [0, 1], got {label_dropout}")
        self.model = model
        self.label_dropout = label_dropout
        self.unigram_entropy = unigram_entropy
        self.optimization = optimization
        self.nats = MeanMetric()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Nats per code of one batch."""
        labels = batch["labels"]
        hidden = torch.rand(len(labels), device=labels.device) < self.label_dropout
        loss = self.model.nats(batch["codes"], labels.masked_fill(hidden, NO_LABEL)).mean()
        self.log("train/nats", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Gather the nats of one batch of held-out codes, labels shown."""
        self.nats.update(self.model.nats(batch["codes"], batch["labels"]))

    def on_validation_epoch_end(self) -> None:
        """Log nats and bits per code over the whole split, beside what knowing nothing or only frequencies costs."""
        nats = self.nats.compute()
        self.nats.reset()
        self.log("validation/nats", nats, prog_bar=True, rank_zero_only=True)
        self.log("validation/bits", nats / math.log(2), rank_zero_only=True)
        sizes = self.model.layout.codebook_size_at()
        self.log("validation/uniform_nats", sizes.float().log().mean(), rank_zero_only=True)
        self.log("validation/unigram_nats", self.unigram_entropy, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        return self.optimization(self.model, self.trainer.max_steps)
