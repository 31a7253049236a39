"""The VQ-VAE (arXiv 1711.00937): images to one grid of codes and back."""

from __future__ import annotations

from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.networks.convolutional import Decoder, Encoder, Norm, halvings
from stage1_vqvae.one_level import OneLevelTokenizer
from stage1_vqvae.quantizers.base import Quantizer


class VQVAE(OneLevelTokenizer):
    """Encoder, quantizer and decoder for images of one size.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizer: Any :class:`~stage1_vqvae.quantizers.base.Quantizer`.
        width: Channels of encoder and decoder.
        residual_width: Channels inside their residual blocks.
        residual_layers: Number of residual blocks; a pair: of the encoder, of the decoder.
        downsample_factor: f, a power of two of at least 2; a code stands for f × f pixels.
        padding, likelihood: As for :class:`~stage1_vqvae.levels.LevelTokenizer`.
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
        factor = 2 ** halvings(downsample_factor)
        layers = (residual_layers, residual_layers) if isinstance(residual_layers, int) else residual_layers
        widths = (quantizer.dim, width, residual_width)
        outputs = likelihood.outputs(channels) if likelihood else channels
        encoder = Encoder(channels, *widths, layers[0], factor, norm)
        decoder = Decoder(outputs, *widths, layers[1], factor, norm)
        super().__init__(image_size, channels, encoder, quantizer, decoder, factor, padding, likelihood)
