"""An encoder, a bottleneck and an autoregressive decoder of pixels: the models of the posterior collapse experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from pipelines.posterior_collapse.bottlenecks import Bottleneck, Latents
from pipelines.posterior_collapse.pixel_decoder import PixelDecoder
from stage1_vqvae.codebook_steps import CodebookSteps
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.networks.convolutional import Encoder


class LatentPixelModel(nn.Module):
    """Black and white images to latents, and a distribution of pixels given those.

    Args:
        bottleneck: Between encoder and decoder.
        image_size: ``(H, W)``.
        encoder_width: Width of the encoder.
        downsample_factor: Pixels along each side that a latent vector stands for, a power of two.
        width: Of the decoder.
        layers: Of the decoder.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        image_size: tuple[int, int],
        encoder_width: int = 32,
        downsample_factor: int = 4,
        width: int = 24,
        layers: int = 6,
    ):
        super().__init__()
        self.encoder = Encoder(1, bottleneck.dim, encoder_width, encoder_width // 2, 1, downsample_factor)
        self.bottleneck = bottleneck
        self.decoder = PixelDecoder(bottleneck.dim, image_size, downsample_factor, width, layers)

    def latents(self, pixels: Tensor) -> Latents:
        """Latents of ``pixels [B, 1, H, W]``, 0 or 1."""
        return self.bottleneck(self.encoder(2 * pixels - 1))

    def step(self) -> None:
        """Step the codebook, if there is one, after an optimiser step."""
        self.bottleneck.step()

    def discard(self) -> None:
        """Let the codebook forget the passes since the last step: it was skipped."""
        self.bottleneck.discard()


class LatentPixelTraining(CodebookSteps):
    """Trains such a model: nats of the pixels, plus the rate that the bottleneck charges, plus its own loss.

    Of Gaussian latents that is the bound of arXiv 1312.6114 without annealing or free bits; of codes, equation 3 of
    arXiv 1711.00937. Nats are per pixel, so that they and the quantizer's loss keep the balance of a tokenizer's.

    Args:
        model: The model.
        optimization: Optimiser and schedule for a module and a number of steps, as Lightning takes them.
    """

    def __init__(self, model: LatentPixelModel, optimization: Callable[[nn.Module, int], Any]) -> None:
        super().__init__()
        self.model = model
        self.optimization = optimization
        self.nats, self.rate, self.shuffled = MeanMetric(), MeanMetric(), MeanMetric()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        pixels = black_and_white(batch["images"])
        latents = self.model.latents(pixels)
        nats = self.model.decoder.nats(pixels, latents.vectors)
        self.log("train/nats", nats.mean(), prog_bar=True)
        self.log("train/rate", latents.rate.mean(), prog_bar=True)
        return (nats + latents.rate).mean() / pixels[0].numel() + latents.loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Gather the nats of one batch, with its images' own latents and with another image's."""
        pixels = black_and_white(batch["images"])
        latents = self.model.latents(pixels)
        self.nats.update(self.model.decoder.nats(pixels, latents.vectors))
        self.rate.update(latents.rate)
        self.shuffled.update(self.model.decoder.nats(pixels, latents.vectors.roll(1, dims=0)))

    def on_validation_epoch_end(self) -> None:
        """Log means over the split, in nats per image."""
        for name, metric in (("nats", self.nats), ("rate", self.rate), ("shuffled", self.shuffled)):
            self.log(f"validation/{name}", metric.compute().float(), prog_bar=True, rank_zero_only=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule that were asked for."""
        return self.optimization(self.model, self.trainer.max_steps)


def black_and_white(images: Tensor) -> Tensor:
    """Grey uint8 images ``[B, H, W, 1]`` as 0 and 1, ``[B, 1, H, W]``."""
    return (normalize(images) > 0).to(torch.float32)
