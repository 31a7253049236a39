"""VQ-VAE-2 (arXiv 1906.00446): images to several grids of codes, coarse to fine, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stage1_vqvae.levels import LevelTokenizer, last_weights
from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.networks.convolutional import Decoder, Encoder, Norm, halvings, strided
from stage1_vqvae.quantizers.base import Quantized, Quantizer


class VQVAE2(LevelTokenizer):
    """A hierarchy of codes (arXiv 1906.00446, figure 2a and algorithm 1), of any number of levels.

    Each level encodes the features of the next finer one. The coarsest level quantizes its features alone; every other
    level quantizes its features together with the decoded latents of the levels above it, and so holds what those left
    out. The decoder sees the latents of all levels, upsampled to the finest grid. Two levels are the paper's model.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizers: One for each level, coarse to fine, of any family and codebook size.
        width: Channels of encoders and decoders.
        residual_width: Channels inside their residual blocks.
        residual_layers: Number of residual blocks of each encoder and decoder.
        downsample_factors: Of each level, coarse to fine, from the next finer level, the last from the image; powers of
            two. ``(2, 4)`` on 256×256 pixels gives grids of 32×32 and 64×64.
        padding, likelihood: As for :class:`~stage1_vqvae.levels.LevelTokenizer`.
        norm: Normalization of residual blocks: ``none``, with ReLU, or ``group``, with SiLU.
        level_dropout: Share of training samples that are decoded from a random number of the coarsest levels alone
            (nested dropout, arXiv 1402.0915), so that these carry what they can: without it a fine grid with room for
            the whole image may leave the coarse ones nothing to say.

    Raises:
        ValueError: If there is not one downsample_factor for each quantizer, one is no power of two, their product does
            not divide the padded image size, there are not 1 to 4 channels, or the dropout is no share.
    """

    decoding = ("upsamplings", "decoder")

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        quantizers: Sequence[Quantizer],
        width: int = 128,
        residual_width: int = 64,
        residual_layers: int = 2,
        downsample_factors: Sequence[int] = (2, 4),
        padding: int = 0,
        likelihood: Likelihood | None = None,
        norm: Norm = "none",
        level_dropout: float = 0.0,
    ) -> None:
        if not 0 <= level_dropout <= 1:
            raise ValueError(f"level_dropout is in [0, 1], got {level_dropout}")
        if not quantizers or len(quantizers) != len(downsample_factors):
            raise ValueError(
                f"one downsample_factor for each level's quantizer expected, got {len(quantizers)} quantizers and "
                f"downsample_factors {list(downsample_factors)}"
            )
        cells = [2 ** sum(map(halvings, downsample_factors[level:])) for level in range(len(downsample_factors))]
        super().__init__(image_size, channels, quantizers, cells, padding, likelihood)
        self.level_dropout = level_dropout
        shape = (width, residual_width, residual_layers)
        inputs = [*[width] * (len(downsample_factors) - 1), channels]
        dims = [quantizer.dim for quantizer in quantizers]
        above = [0, *[width] * (len(dims) - 1)]  # channels of what the levels above decode to
        self.encoders = nn.ModuleList(
            Encoder(each, width, *shape, factor, norm) for each, factor in zip(inputs, downsample_factors, strict=True)
        )
        self.projections = nn.ModuleList(nn.Conv2d(width + more, dim, 1) for dim, more in zip(dims, above, strict=True))
        self.quantizers = nn.ModuleList(quantizers)
        self.contexts = nn.ModuleList(
            Decoder(width, dim + more, *shape, factor, norm)
            for dim, more, factor in zip(dims[:-1], above[:-1], downsample_factors[:-1], strict=True)
        )
        scales = [cell // cells[-1] for cell in cells]
        self.upsamplings = nn.ModuleList(map(upsampling, dims, scales))
        outputs = likelihood.outputs(channels) if likelihood else channels
        self.decoder = Decoder(outputs, sum(dims), *shape, downsample_factors[-1], norm)

    @property
    def levels(self) -> list[Quantizer]:
        """The quantizers, coarse to fine."""
        return [quantizer for quantizer in self.quantizers if isinstance(quantizer, Quantizer)]

    @property
    def last_layer(self) -> nn.Parameter:
        """Weights of the decoder's last layer."""
        return last_weights(self.decoder)

    def quantize(self, images: Tensor) -> list[Quantized]:
        """Quantized latents of each level, coarse to fine, of padded ``images [B, C, H + 2p, W + 2p]`` in [-1, 1]."""
        features = [images.to(self._dtype)]
        for encoder in reversed(self.encoders):
            features.append(encoder(features[-1]))
        decoded: list[Tensor] = []  # of the levels above, at this level's resolution, [B, width, h, w]
        found = []
        for level, quantizer in enumerate(self.levels):
            z = self.projections[level](torch.cat([features.pop(), *decoded], dim=1))
            found.append(quantizer(z))
            if level < len(self.contexts):
                vectors = found[-1].vectors.to(self._dtype)
                decoded = [self.contexts[level](torch.cat([vectors, *decoded], dim=1))]
        return found

    def decode_latents(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H + 2p, W + 2p]`` of each level's quantized latents ``[B, D, h, w]``."""
        pairs = zip(self.upsamplings, latents, strict=True)
        finest = [upsample(each.to(self._dtype)) for upsample, each in pairs]
        return self.decoder(torch.cat(self._some_dropped(finest), dim=1))

    def _some_dropped(self, latents: list[Tensor]) -> list[Tensor]:
        """In training zeros in place of what some samples drop, of each level's latents ``[B, D, h, w]``."""
        if not self.training or self.level_dropout == 0 or len(latents) == 1:
            return latents
        samples, device = len(latents[0]), latents[0].device
        some = torch.randint(1, len(latents), (samples, 1, 1, 1), device=device)
        drops = torch.rand(samples, 1, 1, 1, device=device) < self.level_dropout
        kept = torch.where(drops, some, len(latents))
        return [torch.where(kept > level, each, 0) for level, each in enumerate(latents)]

    @property
    def _dtype(self) -> torch.dtype:
        """Precision of encoders and decoders; quantizers always compute in float32."""
        return next(self.encoders.parameters()).dtype


def upsampling(channels: int, scale: int) -> nn.Sequential:
    """Transposed 4×4 convolutions with ReLU in between, ``[B, C, h, w]`` to ``[B, C, scale · h, scale · w]``.

    Args:
        channels: C.
        scale: A power of two; 1 gives no layers.
    """
    steps = scale.bit_length() - 1
    return nn.Sequential(*strided(nn.ConvTranspose2d, [channels] * (steps + 1), "none")[:-1])
