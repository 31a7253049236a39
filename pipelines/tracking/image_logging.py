"""Callbacks that draw reconstructions and samples during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset

from pipelines.cli.kernel import Display
from pipelines.tracking.base import media_loggers
from pipelines.tracking.image_grid import grid, save_image, strip_of_pairs
from stage1_vqvae.data.augmentation import normalize, to_uint8
from stage1_vqvae.metrics import count_codes
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.precision import release
from stage2_prior.sampling.sampler import classes_in_turn, image_noise, sample
from stage2_prior.sampling.settings import SamplingSettings


class ReconstructionImages(Callback):
    """Logs a fixed batch of held-out images beside their reconstructions after each validation.

    Each is written as a PNG file, and sent to the loggers that take images with a histogram of the codes.

    Args:
        validation: Held-out images.
        folder: For the PNG files.
        count: Images in the batch, spread over the data.
    """

    def __init__(self, validation: Dataset[object], folder: Path, count: int = 32) -> None:
        size = len(validation)  # type: ignore[arg-type]
        spread = [round(index * (size - 1) / max(count - 1, 1)) for index in range(min(count, size))]
        self.images: Tensor = validation.__getitems__(spread)["images"]  # type: ignore[attr-defined]
        self.folder = folder
        self.display = Display()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reconstruct, write and log."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        model = pl_module.model
        assert isinstance(model, Tokenizer)
        with torch.no_grad():
            inputs = self.images.to(pl_module.device)
            codes = model.encode(normalize(inputs))
            outputs = to_uint8(model.decode(codes))
        image = strip_of_pairs(self.images.numpy(), outputs.cpu().numpy())
        save_image(image, self.folder / f"reconstructions-{trainer.global_step:07d}.png")
        self.display.show(image)
        counts = count_codes(codes, model.layout).cpu().numpy()
        for logger in media_loggers(trainer.loggers):
            logger.log_image("reconstructions", [image], trainer.global_step)
            for number, (row, size) in enumerate(zip(counts, model.layout.codebook_sizes, strict=True)):
                name = "codebook" if len(counts) == 1 else f"codebook_{number}"
                logger.log_histogram(name, row[:size], trainer.global_step)


class SampleImages(Callback):
    """Logs samples from the prior after each validation, always of the same noise and classes.

    Args:
        tokenizer: Decodes the samples.
        classes: Numbers of the classes to draw in turn; none for a prior without labels.
        settings: How they are drawn.
        folder: For the PNG files.
        count: Number of samples.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        classes: Sequence[int],
        settings: SamplingSettings,
        folder: Path,
        count: int = 40,
    ) -> None:
        self.tokenizer = tokenizer
        self.classes = classes
        self.settings = settings
        self.folder = folder
        self.count = count
        self.display = Display()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, write and log."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        prior = pl_module.model
        assert isinstance(prior, Prior)
        device = pl_module.device
        labels = classes_in_turn(self.count, self.classes).to(device)
        noise = image_noise(0, range(self.count), prior.layout.length)
        codes = sample(prior, labels, noise, self.settings).codes
        release(prior)  # training needs the memory
        with torch.no_grad():
            images = to_uint8(self.tokenizer.to(device).decode(codes))
        columns = len(self.classes) if 8 <= len(self.classes) <= 20 else 10  # a column per class where that is possible
        shown = self.count // columns * columns
        image = grid(images[:shown].cpu().numpy(), columns)
        save_image(image, self.folder / f"samples-{trainer.global_step:07d}.png")
        self.display.show(image)
        for logger in media_loggers(trainer.loggers):
            logger.log_image("samples", [image], trainer.global_step)
