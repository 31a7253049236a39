"""Training of a tokenizer: the LightningModule around a VQ-VAE."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stage1_vqvae.codebook_steps import CodebookSteps
from stage1_vqvae.data.augmentation import Augmentation, normalize
from stage1_vqvae.data.examples import training_batch
from stage1_vqvae.levels import LevelTokenizer, Reconstruction
from stage1_vqvae.losses import Objective, SquaredError, as_sum
from stage1_vqvae.metrics import CodeUse, count_codes, reconstruction_quality, use_of_codes

SQUARED_ERROR = SquaredError()
NO_AUGMENTATION = Augmentation()
"""What is trained with unless told otherwise."""


def adam(module: nn.Module, max_steps: int) -> torch.optim.Optimizer:
    """Adam with a constant learning rate of 3e-4 (arXiv 1711.00937 has 2e-4)."""
    return torch.optim.Adam(module.parameters(), lr=3e-4)


class TokenizerTraining(CodebookSteps):
    """Trains encoder, codebooks and decoder together (arXiv 1711.00937, equation 3).

    Batches are those of any DataLoader: images ``[B, C, H, W]`` or ``[B, H, W, C]``, uint8 or floats in [0, 1], alone,
    in a pair with labels, or in a mapping. Those of the pipeline hold ``images`` uint8 ``[B, H, W, C]`` and ``draws``
    int64 ``[B]``, which key the augmentation. A checkpoint of Lightning's loads by
    ``TokenizerTraining.load_from_checkpoint(path, model=model)``.

    Args:
        model: The tokenizer.
        objective: The reconstruction term of the loss; a model with a likelihood has nats per dimension in the place
            of the term that compares pixels.
        augmentation: Of training images, on the training device; none by default.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
        seed: Of the augmentation.
        channels_last: Whether weights and images lie in the channels-last memory format in training, which the
            convolutions of many devices are faster in; the last bits are others.
    """

    def __init__(
        self,
        model: LevelTokenizer,
        objective: Objective = SQUARED_ERROR,
        augmentation: Augmentation = NO_AUGMENTATION,
        optimization: Callable[[nn.Module, int], Any] = adam,
        seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.objective = as_sum(objective)
        self.augmentation = augmentation
        self.optimization = optimization
        self.seed = seed
        self.quality = reconstruction_quality()
        self.use = CodeUse(model.layout)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Tensor]:
        """A batch of any DataLoader as the steps take it; one of the pipeline is one already.

        Raises:
            ValueError: If images are of another type, range or size than the model's.
        """
        if isinstance(batch, dict) and "draws" in batch:
            return batch
        return training_batch(batch, self.model.image_size, self.model.channels)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``loss`` of one batch, its terms ``reconstruction`` and ``quantizer``, and ``codes [B, T]``.

        Where the objective is a sum, its terms are there too, each without its weight.
        """
        _, _, found = self._reconstructed(batch)
        return found

    def _reconstructed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Reconstruction, dict[str, Tensor]]:
        """Augmented images ``[B, C, H, W]``, what the model makes of them, and what a training step returns."""
        draws = batch["draws"] if "draws" in batch else self._draws_of(len(batch["images"]))
        images = self.augmentation(batch["images"], draws, self.seed, self.memory_format)
        passed = self.model(images)
        terms = self._terms(passed, images)
        reconstruction = self.objective.total(terms)
        found = {
            **(terms if len(terms) > 1 else {}),
            "loss": reconstruction + passed.loss,
            "reconstruction": reconstruction,
            "quantizer": passed.loss,
            "codes": passed.codes,
        }
        return images, passed, found

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log every so many steps: the loss, its terms, and the perplexity of the batch's codes."""
        if not outputs or not self._step_is_logged:
            return
        # Lightning divides the loss by the number of batches of a step.
        self.log("train/loss", outputs["reconstruction"] + outputs["quantizer"], prog_bar=True)
        for name, value in outputs.items():
            if name not in ("loss", "codes"):
                self.log(f"train/{name}", value)
        use = use_of_codes(count_codes(outputs["codes"], self.model.layout), self.model.layout)
        self.log_dict({f"train/{name}": value for name, value in use.items() if name.startswith("perplexity")})

    def _terms(self, passed: Reconstruction, images: Tensor) -> dict[str, Tensor]:
        """Terms of the objective by name, without their weights."""
        nats = None
        if self.model.likelihood:
            # Nats per dimension are a squared error over twice the error's own variance, so they and the quantizer's
            # loss, a mean too, keep about the balance that the objectives have.
            nats = self.model.likelihood.nats(passed.outputs, images).mean() / images[0].numel()
        return self.objective.terms(passed.images, images, nats)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Gather the metrics of one batch of held-out images."""
        images = normalize(batch["images"], self.memory_format)
        passed = self.model(images)
        self.quality.update(passed.images.float().clamp(-1, 1), images)
        self.use.update(passed.codes)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole split: MSE, PSNR and SSIM of pixels in [-1, 1], codebook usage, perplexity."""
        metrics = {**self.quality.compute(), **self.use.compute()}
        for name, value in metrics.items():
            shown = name in ("psnr", "perplexity")
            self.log(f"validation/{name}", value.to(torch.float32), prog_bar=shown, rank_zero_only=True)
        self.quality.reset()
        self.use.reset()

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``codes`` ``[B, T]`` of a batch and its ``reconstructions`` ``[B, C, H, W]`` in [0, 1]."""
        codes = self.model.encode(normalize(batch["images"], self.memory_format))
        return {"codes": codes, "reconstructions": (self.model.decode(codes) + 1) / 2}

    def teardown(self, stage: str) -> None:
        """Leave the weights in the memory format that models are saved in."""
        self.model.to(memory_format=torch.contiguous_format)

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        steps = self.trainer.max_steps
        if steps < 0:  # a trainer that counts epochs; without end if it counts none
            steps = int(min(self.trainer.estimated_stepping_batches, sys.maxsize))
        return self.optimization(self.model, steps)

    def _draws_of(self, images: int) -> Tensor:
        """Numbers of a batch's images where its loader gives none: the next ones."""
        first = self.trainer.fit_loop.total_batch_idx * images
        return torch.arange(first, first + images)

    @property
    def _step_is_logged(self) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.trainer.should_stop or self.trainer.global_step % every == 0
