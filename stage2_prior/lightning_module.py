"""Training of a prior, or of a part of it: the LightningModule around any of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from stage2_prior.batches import training_batch
from stage2_prior.prior import NO_LABEL, Autoregressive
from stage2_prior.random_order import RandomOrder, draw_orders


def adamw(module: nn.Module, max_steps: int) -> torch.optim.Optimizer:
    """AdamW with a constant learning rate of 3e-4 and the moving averages that transformers are trained with."""
    return torch.optim.AdamW(module.parameters(), lr=3e-4, betas=(0.9, 0.95))


class PriorTraining(LightningModule):
    """Trains a prior by maximum likelihood.

    Batches are those of any DataLoader: integer codes ``[B, T]``, or ``[B, *grid]`` of a single grid, alone, in a pair
    with labels ``[B]``, or in a mapping with the keys ``codes`` and ``labels``. Those of the pipeline come from a
    :class:`~stage2_prior.code_store.CodeStore`. A checkpoint of Lightning's loads by
    ``PriorTraining.load_from_checkpoint(path, model=model)``.

    Args:
        model: The prior, or one grid's part of it.
        label_dropout: Share of labels hidden in training, so that the prior also learns the null class and sampling
            can be guided (arXiv 2207.12598).
        unigram_entropy: Entropy of the training codes' frequencies in nats per code, logged beside the prior's; None
            where it is not known.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
        random_order: Two shares of the training, between which the share of rows in random order falls from 1 to 0
            (RAR, see :mod:`stage2_prior.random_order`); None for raster order alone.

    Raises:
        ValueError: If a share is out of range, or a model without other orders is to be trained in some.
    """

    def __init__(
        self,
        model: Autoregressive,
        label_dropout: float = 0.1,
        unigram_entropy: float | None = None,
        optimization: Callable[[nn.Module, int], Any] = adamw,
        random_order: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_dropout <= 1:
            raise ValueError(f"label_dropout is in [0, 1], got {label_dropout}")
        if random_order is not None and not model.any_order:
            raise ValueError(
                f"stage2.random_order: a {type(model).__name__} predicts codes in raster order alone: give null, "
                "or stage2=transformer"
            )
        self.model = model
        self.label_dropout = label_dropout
        self.unigram_entropy = unigram_entropy
        self.optimization = optimization
        self.random_order = None if random_order is None else RandomOrder(*random_order)
        self.nats = nn.ModuleList(MeanMetric(nan_strategy="disable") for _ in model.layout.grids)

    @property
    def grid_means(self) -> list[MeanMetric]:
        """Mean nats of each grid's codes over the split."""
        return [mean for mean in self.nats if isinstance(mean, MeanMetric)]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Tensor]:
        """A batch of any DataLoader as the steps take it; one of the pipeline is one already.

        Raises:
            ValueError: If codes or labels do not fit the model.
        """
        if isinstance(batch, dict) and "draws" in batch:
            return batch
        return training_batch(batch, self.model)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Draw the orders of the rows, as long as some are in random order."""
        if self.random_order is None:
            return
        probability = self.random_order.probability(self.trainer.global_step, self._steps)
        if probability > 0:
            codes = batch["codes"]
            batch["order"] = draw_orders(self.model.layout, len(codes), probability, codes.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the nats per code of one batch, as ``loss`` and as ``nats``."""
        labels = batch["labels"]
        hidden = torch.rand(len(labels), device=labels.device) < self.label_dropout
        nats = self.model.nats(batch["codes"], labels.masked_fill(hidden, NO_LABEL), batch.get("order")).mean()
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
        if self.unigram_entropy is not None:
            self.log("validation/unigram_nats", self.unigram_entropy, rank_zero_only=True)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the nats of every code of a batch, float32 ``[B, T]``."""
        return self.model.nats(batch["codes"], batch["labels"])

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        return self.optimization(self.model, self._steps)

    @property
    def _steps(self) -> int:
        steps = self.trainer.max_steps
        if steps < 0:  # a trainer that counts epochs; without end if it counts none
            steps = int(min(self.trainer.estimated_stepping_batches, sys.maxsize))
        return steps

    @property
    def _step_is_logged(self) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.trainer.should_stop or self.trainer.global_step % every == 0
