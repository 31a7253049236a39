"""Tokenizers with one level of codes: an encoder, a quantizer and a decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from stage1_vqvae.levels import LevelTokenizer, last_weights
from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.quantizers.base import Quantized, Quantizer


class OneLevelTokenizer(LevelTokenizer):
    """Encoder, quantizer and decoder for images of one size, whichever networks they are.

    Args:
        image_size, channels, padding, likelihood: As for :class:`~stage1_vqvae.levels.LevelTokenizer`.
        encoder: Latents ``[B, D, h, w]`` of images ``[B, C, H, W]``.
        quantizer: Any :class:`~stage1_vqvae.quantizers.base.Quantizer`.
        decoder: The decoder's outputs ``[B, outputs, H, W]`` of latents.
        downsample_factor: f, how many times fewer places the latents have along each side.

    Raises:
        ValueError: If downsample_factor does not divide the padded image size, or there are not 1 to 4 channels.
    """

    decoding = ("decoder",)

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        encoder: nn.Module,
        quantizer: Quantizer,
        decoder: nn.Module,
        downsample_factor: int,
        padding: int = 0,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(image_size, channels, [quantizer], [downsample_factor], padding, likelihood)
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder

    @property
    def levels(self) -> list[Quantizer]:
        """The one quantizer."""
        return [self.quantizer]

    @property
    def last_layer(self) -> nn.Parameter:
        """Weights of the decoder's last layer."""
        return last_weights(self.decoder)

    def quantize(self, images: Tensor) -> list[Quantized]:
        """Quantized latents of padded ``images [B, C, H + 2p, W + 2p]`` in [-1, 1]: one level."""
        return [self.quantizer(self.encoder(images.to(next(self.encoder.parameters()).dtype)))]

    def decode_latents(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H + 2p, W + 2p]`` of quantized latents ``[B, D, h, w]`` of one level."""
        (only,) = latents
        return self.decoder(only.to(next(self.decoder.parameters()).dtype))
