"""Training of a prior, or of a part of it: the LightningModule around any of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from stage2_prior.prior import NO_LABEL, Autoregressive


class PriorTraining(LightningModule):
    """Trains a prior by maximum likelihood.

    Batches hold ``codes`` int64 ``[B, T]`` and ``labels`` int64 ``[B]``.

    Args:
        model: The prior, or one grid's part of it.
        label_dropout: Share of labels hidden in training, so that the prior also learns the null class and sampling
            can be guided (arXiv 2207.12598).
        unigram_entropy: Entropy of the training codes' frequencies in nats per code, logged beside the prior's.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
    """

    def __init__(
        self,
        model: Autoregressive,
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
        self.nats = nn.ModuleList(MeanMetric(nan_strategy="disable") for _ in model.layout.grids)

    @property
    def grid_means(self) -> list[MeanMetric]:
        """Mean nats of each grid's codes over the split."""
        return [mean for mean in self.nats if isinstance(mean, MeanMetric)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the nats per code of one batch, as ``loss`` and as ``nats``."""
        labels = batch["labels"]
        hidden = torch.rand(len(labels), device=labels.device) < self.label_dropout
        nats = self.model.nats(batch["codes"], labels.masked_fill(hidden, NO_LABEL)).mean()
        return {"loss": nats, "nats": nats}  # Lightning divides the loss by the number of batches of a step

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the nats per code, every so many steps."""
        if outputs and self._step_is_logged:
            self.log("train/nats", outputs["nats"], prog_bar=True)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Gather the nats of one batch of held-out codes, labels shown."""
        nats = self.model.nats(batch["codes"], batch["labels"])
        for mean, of_grid in zip(self.grid_means, self.model.layout.split(nats), strict=True):
            mean.update(of_grid)

    def on_validation_epoch_end(self) -> None:
        """Log nats and bits per code over the whole split, beside what knowing nothing or only frequencies costs.

        Where there are several grids, also the nats per code of each, with the grid's number behind.
        """
        layout = self.model.layout
        by_grid = torch.stack([mean.compute() for mean in self.grid_means])
        nats = (by_grid * torch.tensor(layout.lengths).to(by_grid)).sum() / layout.length
        for mean in self.grid_means:
            mean.reset()
        self.log("validation/nats", nats, prog_bar=True, rank_zero_only=True)
        self.log("validation/bits", nats / math.log(2), rank_zero_only=True)
        if len(layout.grids) > 1:
            metrics = {f"validation/nats_{grid}": value for grid, value in enumerate(by_grid)}
            self.log_dict(metrics, rank_zero_only=True)
        sizes = layout.codebook_size_at()
        self.log("validation/uniform_nats", sizes.float().log().mean(), rank_zero_only=True)
        self.log("validation/unigram_nats", self.unigram_entropy, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        return self.optimization(self.model, self.trainer.max_steps)

    @property
    def _step_is_logged(self) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.trainer.should_stop or self.trainer.global_step % every == 0
