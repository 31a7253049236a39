"""The VQ-VAE (arXiv 1711.00937): images to one grid of codes and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.networks.convolutional import Decoder, Encoder, Norm, halvings
from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.tokenizer import Tokenizer


class VQVAE(Tokenizer):
    """Encoder, quantizer and decoder for images of one size.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizer: Any :class:`~stage1_vqvae.quantizers.base.Quantizer`.
        width: Channels of encoder and decoder.
        residual_width: Channels inside their residual blocks.
        residual_layers: Number of residual blocks; a pair: of the encoder, of the decoder.
        downsample_factor: f, a power of two of at least 2; a code stands for f × f pixels.
        padding, likelihood: As for :class:`~stage1_vqvae.tokenizer.Tokenizer`.
        norm: Normalization of residual blocks: ``none``, with ReLU, or ``group``, with SiLU.

    Raises:
        ValueError: If downsample_factor is no power of two or does not divide the padded image size, or there are not
            1 to 4 channels.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        quantizer: Quantizer,
        width: int = 128,
        residual_width: int = 32,
        residual_layers: int | tuple[int, int] = 2,
        downsample_factor: int = 4,
        padding: int = 0,
        likelihood: Likelihood | None = None,
        norm: Norm = "none",
    ) -> None:
        super().__init__(image_size, channels, [quantizer], [2 ** halvings(downsample_factor)], padding, likelihood)
        layers = (residual_layers, residual_layers) if isinstance(residual_layers, int) else residual_layers
        widths = (quantizer.dim, width, residual_width)
        outputs = likelihood.outputs(channels) if likelihood else channels
        self.encoder = Encoder(channels, *widths, layers[0], downsample_factor, norm)
        self.quantizer = quantizer
        self.decoder = Decoder(outputs, *widths, layers[1], downsample_factor, norm)

    @property
    def levels(self) -> list[Quantizer]:
        """The one quantizer."""
        return [self.quantizer]

    def quantize(self, images: Tensor) -> list[Quantized]:
        """Quantized latents of padded ``images [B, C, H + 2p, W + 2p]`` in [-1, 1]: one level."""
        return [self.quantizer(self.encoder(images.to(next(self.encoder.parameters()).dtype)))]

    def decode_latents(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H + 2p, W + 2p]`` of quantized latents ``[B, D, h, w]`` of one level."""
        (only,) = latents
        return self.decoder(only.to(next(self.decoder.parameters()).dtype))
