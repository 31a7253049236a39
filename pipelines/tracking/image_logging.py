"""Grids of images, and the callbacks that draw them during training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset

from pipelines.tracking.base import boards
from stage1_vqvae.data.augmentation import normalize, to_uint8
from stage1_vqvae.files import replacing
from stage1_vqvae.metrics import count_codes
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.sampler import SamplingSettings, classes_in_turn, image_noise, sample

SMALLEST = 640
"""Pixels that a grid is at least wide: small images are enlarged without smoothing."""


def grid(images: NDArray[np.uint8], columns: int, gap: int = 2) -> Image.Image:
    """One picture of ``images [N, H, W, C]`` in rows of ``columns``, on white.

    Grey, RGB and RGBA are shown as they are; of two channels (grey with alpha) likewise.
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    sheet[:n, :height, :width] = images
    sheet = rearrange(sheet, "(r c) h w ch -> (r h) (c w) ch", c=columns)
    sheet = np.pad(sheet, ((gap, 0), (gap, 0), (0, 0)), constant_values=255)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet, mode)
    zoom = max(1, round(SMALLEST / picture.width))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def reconstruction_strip(images: NDArray[np.uint8], reconstructions: NDArray[np.uint8]) -> Image.Image:
    """Images above what the tokenizer makes of them, both ``[N, H, W, C]``, in full rows of up to 16."""
    columns = min(len(images), 16)
    shown = len(images) // columns * columns
    both = np.stack([images[:shown], reconstructions[:shown]])
    return grid(rearrange(both, "two (r c) ... -> (r two c) ...", c=columns), columns)


class ReconstructionPictures(Callback):
    """After each validation, a fixed batch of held-out images beside their reconstructions."""

    def __init__(self, validation: Dataset[object], folder: Path, count: int = 32) -> None:
        size = len(validation)  # type: ignore[arg-type]
        spread = [round(index * (size - 1) / max(count - 1, 1)) for index in range(min(count, size))]
        self.images: Tensor = validation.__getitems__(spread)["images"]  # type: ignore[attr-defined]
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, write and log."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        model = pl_module.model
        assert isinstance(model, Tokenizer)
        with torch.no_grad():
            inputs = self.images.to(pl_module.device)
            codes = model.encode(normalize(inputs))
            outputs = to_uint8(model.decode(codes))
        picture = reconstruction_strip(self.images.numpy(), outputs.cpu().numpy())
        save_picture(picture, self.folder / f"reconstructions-{trainer.global_step:07d}.png")
        counts = count_codes(codes, model.layout).cpu().numpy()
        for board in boards(trainer.loggers):
            board.log_picture("reconstructions", picture, trainer.global_step)
            for grid_number, (row, size) in enumerate(zip(counts, model.layout.codebook_sizes, strict=True)):
                name = "codebook" if len(counts) == 1 else f"codebook_{grid_number}"
                board.log_histogram(name, row[:size], trainer.global_step)


class SamplePictures(Callback):
    """After each validation, samples from the prior as it is now, always of the same noise and classes."""

    def __init__(self, tokenizer: Tokenizer, settings: SamplingSettings, folder: Path, count: int = 40) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.folder = folder
        self.count = count

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, write and log."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        prior = pl_module.model
        assert isinstance(prior, Prior)
        device = pl_module.device
        labels = classes_in_turn(self.count, prior.num_classes).to(device)
        noise = image_noise(0, range(self.count), prior.layout.length)
        codes = sample(prior, labels, noise, self.settings)
        with torch.no_grad():
            images = to_uint8(self.tokenizer.to(device).decode(codes))
        columns = prior.num_classes if 8 <= prior.num_classes <= 20 else 10  # a column per class where that is possible
        shown = self.count // columns * columns
        picture = grid(images[:shown].cpu().numpy(), columns)
        save_picture(picture, self.folder / f"samples-{trainer.global_step:07d}.png")
        for board in boards(trainer.loggers):
            board.log_picture("samples", picture, trainer.global_step)
