"""The VQ-VAE (arXiv 1711.00937): images to codes and back. Inference only: no losses here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.networks import Decoder, Encoder, Norm
from stage1_vqvae.quantizers.base import Quantized, Quantizer


@dataclass(frozen=True)
class Reconstruction:
    """What a pass through encoder, quantizer and decoder gives.

    Attributes:
        images: ``[B, C, H, W]``, in [-1, 1] up to the decoder's error.
        codes: int64 ``[B, T]``.
        loss: The quantizer's loss, a scalar.
        outputs: What the decoder gave: the images themselves, or the parameters of their likelihood.
    """

    images: Tensor
    codes: Tensor
    loss: Tensor
    outputs: Tensor


class VQVAE(nn.Module):
    """Encoder, quantizer and decoder for images of one size.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizer: Any :class:`~stage1_vqvae.quantizers.base.Quantizer`.
        hidden: Width of encoder and decoder.
        residual_hidden: Width inside their residual blocks.
        residual_layers: Number of their residual blocks.
        factor: Downsampling factor, a power of two; a code stands for ``factor × factor`` pixels.
        margin: Pixels by which the encoder extends every border (repeating it outwards) and the decoder crops, so
            that sizes which the factor does not divide have a grid too: 28×28 digits with a margin of 2 one of 4×4.
        likelihood: What the decoder's outputs mean; None: they are the images.
        norm: What residual blocks normalize by: ``none``, with ReLU, or ``group`` normalization, with SiLU.
        decoder_layers: Residual blocks of the decoder; None: ``residual_layers``, as the encoder has.

    Raises:
        ValueError: If the factor does not divide the image size, or there are not 1 to 4 channels.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        quantizer: Quantizer,
        hidden: int = 128,
        residual_hidden: int = 32,
        residual_layers: int = 2,
        factor: int = 4,
        margin: int = 0,
        likelihood: Likelihood | None = None,
        norm: Norm = "none",
        decoder_layers: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= channels <= 4:
            raise ValueError(f"images have 1 to 4 channels, got {channels}")
        widths = (quantizer.dim, hidden, residual_hidden)
        outputs = likelihood.outputs(channels) if likelihood else channels
        self.encoder = Encoder(channels, *widths, residual_layers, factor, norm)
        self.quantizer = quantizer
        self.decoder = Decoder(outputs, *widths, decoder_layers or residual_layers, factor, norm)
        self.likelihood = likelihood
        self.channels = channels
        self.image_size = tuple(image_size)
        self.margin = margin
        grid = self.grid_shape(image_size)
        self.layout = CodeLayout((grid,) * len(quantizer.codebook_sizes), quantizer.codebook_sizes)

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, quantize and decode ``images [B, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: If images are not of the model's size and channels.
        """
        quantized = self._quantize(images)
        outputs = self._draw(quantized.vectors)
        return Reconstruction(self._images(outputs), self._flatten(quantized.codes), quantized.loss, outputs)

    def encode(self, images: Tensor) -> Tensor:
        """Codes ``[B, T]`` of ``images [B, C, H, W]`` in [-1, 1]."""
        return self._flatten(self._quantize(images).codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of ``codes [B, T]``."""
        return self.decode_grid(self._grid(codes))

    def nats(self, images: Tensor, codes: Tensor) -> Tensor:
        """Negative log-likelihood ``-log p(images | codes)`` of each image in nats: ``[B]``.

        Args:
            images: ``[B, C, H, W]`` in [-1, 1].
            codes: ``[B, T]``.

        Raises:
            ValueError: If the model has no likelihood.
        """
        if self.likelihood is None:
            raise ValueError("this tokenizer has no likelihood: train it with stage1/likelihood=discretized_logistic")
        return self.likelihood.nats(self._draw(self.quantizer.lookup(self._grid(codes))), images)

    def decode_grid(self, codes: Tensor) -> Tensor:
        """Images in [-1, 1] of a grid of any shape, as far as the networks are convolutional, and they are.

        Args:
            codes: ``[B, h, w]``, of a residual quantizer ``[B, h, w, depth]``.

        Returns:
            ``[B, C, H, W]``, the size whose :meth:`grid_shape` is ``(h, w)``.
        """
        return self._images(self._draw(self.quantizer.lookup(codes))).clamp(-1, 1)

    def grid_shape(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Shape in codes of an image of ``(H, W)`` pixels, which need not be the model's own size.

        Raises:
            ValueError: If the factor does not divide it.
        """
        height, width = (size + 2 * self.margin for size in image_size)
        factor = self.encoder.factor
        if height % factor or width % factor:
            near = [max(factor, round(size / factor) * factor) for size in (height, width)]
            including = " (margin included)" if self.margin else ""
            raise ValueError(
                f"image_size {height}×{width}{including} is not divisible by factor {factor}: "
                f"{near[0]}×{near[1]} would work"
            )
        return height // factor, width // factor

    def _quantize(self, images: Tensor) -> Quantized:
        expected = (self.channels, *self.image_size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images [B, {', '.join(map(str, expected))}] expected, got {list(images.shape)}")
        if self.margin:
            images = F.pad(images, (self.margin,) * 4, mode="replicate")
        return self.quantizer(self.encoder(images.to(next(self.encoder.parameters()).dtype)))

    def _draw(self, vectors: Tensor) -> Tensor:
        outputs = self.decoder(vectors.to(next(self.decoder.parameters()).dtype))
        height, width = outputs.shape[-2:]
        outputs = outputs[..., self.margin : height - self.margin, self.margin : width - self.margin]
        return outputs.contiguous()  # the lookup gives channels last, and convolutions keep that

    def _images(self, outputs: Tensor) -> Tensor:
        return self.likelihood.images(outputs) if self.likelihood else outputs

    def _grid(self, codes: Tensor) -> Tensor:
        """The inverse of :meth:`_flatten`."""
        grids = torch.stack(self.layout.split(codes), dim=-1)  # [B, h, w, depth]
        return grids if grids.shape[-1] > 1 else grids.squeeze(-1)

    def _flatten(self, codes: Tensor) -> Tensor:
        """Codes ``[B, h, w]``, or ``[B, h, w, depth]`` of a residual quantizer, one grid after another: ``[B, T]``."""
        return rearrange(codes.flatten(3) if codes.ndim > 3 else codes[..., None], "b h w d -> b (d h w)")
