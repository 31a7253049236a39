"""Training of a tokenizer: the LightningModule around a VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from stage1_vqvae.augmentation import Augmentation, normalize
from stage1_vqvae.metrics import CodeUse, reconstruction_quality
from stage1_vqvae.objectives import Objective
from stage1_vqvae.vqvae import VQVAE


class TokenizerTraining(LightningModule):
    """Trains encoder, codebook and decoder together (arXiv 1711.00937, equation 3).

    Batches hold ``images`` uint8 ``[B, H, W, C]`` and ``draws`` int64 ``[B]``, which key the augmentation.

    Args:
        model: The VQ-VAE.
        objective: The reconstruction term of the loss.
        augmentation: Of training images, on the training device.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
        seed: Of the augmentation.
    """

    def __init__(
        self,
        model: VQVAE,
        objective: Objective,
        augmentation: Augmentation,
        optimization: Callable[[nn.Module, int], Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.augmentation = augmentation
        self.optimization = optimization
        self.seed = seed
        self.quality = reconstruction_quality()
        self.use = CodeUse(model.layout)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        images = self.augmentation(batch["images"], batch["draws"], self.seed)
        passed = self.model(images)
        reconstruction = self.objective(passed.images, images)
        loss = reconstruction + passed.loss
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/reconstruction", reconstruction)
        self.log("train/quantizer", passed.loss)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimiser, then the codebook."""
        super().optimizer_step(*args, **kwargs)
        self.model.quantizer.step()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Gather the figures of one batch of held-out images."""
        images = normalize(batch["images"])
        passed = self.model(images)
        self.quality.update(passed.images.clamp(-1, 1), images)
        self.use.update(passed.codes)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the whole split: MSE, PSNR and SSIM of pixels in [-1, 1], codebook usage, perplexity."""
        figures = {**self.quality.compute(), **self.use.compute()}
        for name, value in figures.items():
            shown = name in ("psnr", "perplexity")
            self.log(f"validation/{name}", value.to(torch.float32), prog_bar=shown, rank_zero_only=True)
        self.quality.reset()
        self.use.reset()

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        return self.optimization(self.model, self.trainer.max_steps)
