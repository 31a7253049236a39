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
        width: Width of encoder and decoder.
        residual_width: Width inside their residual blocks.
        residual_layers: Number of their residual blocks; two numbers for the encoder's and the decoder's.
        downsample_factor: A power of two, f; a code stands for f × f pixels.
        padding, likelihood: As for :class:`~stage1_vqvae.tokenizer.Tokenizer`.
        norm: What residual blocks normalize by: ``none``, with ReLU, or ``group`` normalization, with SiLU.

    Raises:
        ValueError: If the factor does not divide the image size, or there are not 1 to 4 channels.
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
        """Vectors and codes of ``images [B, C, H, W]``, their padding included."""
        return [self.quantizer(self.encoder(images.to(next(self.encoder.parameters()).dtype)))]

    def draw(self, vectors: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H, W]``, padding included, of one level's ``[B, D, h, w]``."""
        (only,) = vectors
        return self.decoder(only.to(next(self.decoder.parameters()).dtype))
