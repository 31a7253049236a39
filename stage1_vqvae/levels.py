"""Tokenizers with levels of latents, each of which has a quantizer. Losses are elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.tokenizer import Tokenizer


@dataclass(frozen=True)
class Reconstruction:
    """The result of a pass through encoder, quantizers and decoder.

    Attributes:
        images: ``[B, C, H, W]``, in [-1, 1] up to the decoder's error.
        codes: int64 ``[B, T]``.
        loss: The sum of the quantizers' losses, a scalar.
        outputs: The decoder's outputs ``[B, outputs, H, W]``: the images, or the parameters of their likelihood.
    """

    images: Tensor
    codes: Tensor
    loss: Tensor
    outputs: Tensor


class LevelTokenizer(Tokenizer):
    """A tokenizer of quantizers, through one level of latents or several, from coarse to fine.

    A subclass has one quantizer for each level. It encodes and quantizes in :meth:`quantize`, and decodes the
    quantized latents of all levels in :meth:`decode_latents`.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizers: One for each level, coarse to fine.
        cells: Pixels along each side of the square that one latent of each level stands for, coarse to fine. The first
            is a multiple of the others.
        padding: Pixels added at every border before encoding, by repeating the border, and cropped after decoding. It
            makes other image sizes divisible: with a padding of 2, 28×28 pixels have a grid of 4×4 cells of 8×8.
        likelihood: The distribution whose parameters the decoder gives. None: the decoder gives the images.

    Raises:
        ValueError: If the cells do not divide the image size, or there are not 1 to 4 channels.

    Attributes:
        decoding: Names of the modules that :meth:`decode_latents` alone uses, which can be trained while the codes
            stay; none where a subclass does not name them.
    """

    decoding: tuple[str, ...] = ()

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        quantizers: Iterable[Quantizer],
        cells: Sequence[int],
        padding: int = 0,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(image_size, channels)
        self.cells = tuple(cells)
        self.padding = padding
        self.likelihood = likelihood
        self.sizes = tuple(quantizer.codebook_sizes for quantizer in quantizers)
        self.layout = self.layout_of(image_size)

    @property
    @abstractmethod
    def levels(self) -> list[Quantizer]:
        """The quantizers, coarse to fine."""

    @property
    def last_layer(self) -> nn.Parameter:
        """Weights of the decoder's last layer, whose gradients weigh an adversarial loss.

        Raises:
            ValueError: If the class does not name them.
        """
        raise ValueError(f"{type(self).__name__} has no last_layer: define it, to train against a discriminator")

    @abstractmethod
    def quantize(self, images: Tensor) -> list[Quantized]:
        """Quantized latents of each level, coarse to fine, of padded ``images [B, C, H + 2p, W + 2p]`` in [-1, 1]."""

    @abstractmethod
    def decode_latents(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H + 2p, W + 2p]`` of each level's quantized latents ``[B, D, h, w]``."""

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, quantize and decode ``images [B, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: If images are not of the model's size and channels.
        """
        levels = self.quantize(self._padded(images))
        outputs = self._outputs([level.vectors for level in levels])
        loss = torch.stack([level.loss for level in levels]).sum()
        return Reconstruction(self._images(outputs), self._join([level.codes for level in levels]), loss, outputs)

    def encode(self, images: Tensor) -> Tensor:
        """Codes, int64 ``[B, T]``, of ``images [B, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: If images are not of the model's size and channels.
        """
        return self._join([level.codes for level in self.quantize(self._padded(images))])

    def decode(self, codes: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of ``codes [B, T]``.

        Args:
            codes: In the layout that :meth:`layout_of` gives for the image size.
            image_size: ``(H, W)``; None for the model's own. The networks are convolutional, so that every size with a
                layout can be decoded.

        Raises:
            ValueError: If the codes have another length than that layout.
        """
        return self._images(self._outputs_of(codes, image_size or self.image_size)).clamp(-1, 1)

    def latents(self, codes: Tensor, image_size: tuple[int, int] | None = None) -> list[Tensor]:
        """The vectors ``[B, D, h, w]`` of each level, coarse to fine, that ``codes [B, T]`` stand for.

        Args:
            codes: In the layout that :meth:`layout_of` gives for the image size.
            image_size: ``(H, W)``; None for the model's own.

        Raises:
            ValueError: If the codes have another length than that layout.
        """
        parts = self._split(codes, self.layout_of(image_size or self.image_size))
        return [quantizer.lookup(part) for quantizer, part in zip(self.levels, parts, strict=True)]

    def images_of(self, latents: Sequence[Tensor]) -> Tensor:
        """Images ``[B, C, H, W]``, in [-1, 1] up to the decoder's error, of vectors ``[B, D, h, w]`` of each level."""
        return self._images(self._outputs(latents))

    def nats(self, images: Tensor, codes: Tensor) -> Tensor:
        """Negative log-likelihood of each image; see :meth:`~stage1_vqvae.tokenizer.Tokenizer.nats`."""
        if self.likelihood is None:
            return super().nats(images, codes)
        return self.likelihood.nats(self._outputs_of(codes, self.image_size), images)

    def layout_of(self, image_size: tuple[int, int]) -> CodeLayout:
        """The layout of the codes of images of ``(H, W)`` pixels, which need not be the model's own size.

        Raises:
            ValueError: If the padded size is not divisible by the coarsest level's downsample_factor.
        """
        height, width = (size + 2 * self.padding for size in image_size)
        coarsest = self.cells[0]
        if height % coarsest or width % coarsest:
            border = 2 * self.padding
            whole = [coarsest * max(round(size / coarsest), border // coarsest + 1) for size in (height, width)]
            near = [size - border for size in whole]
            including = f" + 2 × padding {self.padding}" if self.padding else ""
            raise ValueError(
                f"image_size {image_size[0]}×{image_size[1]}{including} is not divisible by "
                f"downsample_factor {coarsest}: {near[0]}×{near[1]} would work"
            )
        grids = [((height // cell, width // cell),) * len(n) for cell, n in zip(self.cells, self.sizes, strict=True)]
        return CodeLayout(sum(grids, ()), sum(self.sizes, ()))

    @torch.no_grad()
    def codebooks(self) -> tuple[Tensor, ...]:
        """The vectors that the codes of each grid stand for, coarse to fine: ``[K, D]``, of code k in row k.

        Where a vector is put together from the codes of several depths, those of the others are 0.
        """
        device = next(self.parameters()).device
        found = []
        for quantizer, sizes in zip(self.levels, self.sizes, strict=True):
            for depth, size in enumerate(sizes):
                codes = torch.zeros(size, len(sizes), dtype=torch.int64, device=device)
                codes[:, depth] = torch.arange(size, device=device)
                found.append(quantizer.lookup(codes if len(sizes) > 1 else codes[:, 0]))
        return tuple(found)

    def step(self) -> None:
        """Step every codebook, once per optimiser step; see :meth:`~stage1_vqvae.quantizers.base.Quantizer.step`."""
        for quantizer in self.levels:
            quantizer.step()

    def discard(self) -> None:
        """Drop what the quantizers gathered since the last step: that optimiser step was skipped."""
        for quantizer in self.levels:
            quantizer.discard()

    def _padded(self, images: Tensor) -> Tensor:
        """``images [B, C, H, W]``, checked and padded."""
        self.check(images)
        return F.pad(images, (self.padding,) * 4, mode="replicate") if self.padding else images

    def _outputs(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs of quantized latents of each level, cropped to the image: ``[B, outputs, H, W]``."""
        # Forward passes and lookups give other memory formats. Convolutions choose their kernels, and with them the
        # last bits, by the format.
        outputs = self.decode_latents([each.contiguous() for each in latents])
        height, width = outputs.shape[-2:]
        return outputs[..., self.padding : height - self.padding, self.padding : width - self.padding].contiguous()

    def _outputs_of(self, codes: Tensor, image_size: tuple[int, int]) -> Tensor:
        """The decoder's outputs of ``codes [B, T]``."""
        return self._outputs(self.latents(codes, image_size))

    def _images(self, outputs: Tensor) -> Tensor:
        """The images that the decoder's outputs mean."""
        return self.likelihood.images(outputs) if self.likelihood else outputs

    def _join(self, codes: Sequence[Tensor]) -> Tensor:
        """Codes ``[B, h, w]`` or ``[B, h, w, depth]`` of each level, one grid after another: ``[B, T]``."""
        deep = [level.flatten(3) if level.ndim > 3 else level[..., None] for level in codes]
        return torch.cat([rearrange(level, "b h w depth -> b (depth h w)") for level in deep], dim=1)

    def _split(self, codes: Tensor, layout: CodeLayout) -> list[Tensor]:
        """The inverse of :meth:`_join`."""
        grids = iter(layout.split(codes))
        parts = [torch.stack([next(grids) for _ in sizes], dim=-1) for sizes in self.sizes]  # [B, h, w, depth] each
        return [part if part.shape[-1] > 1 else part.squeeze(-1) for part in parts]


def last_weights(network: nn.Module) -> nn.Parameter:
    """Weights of the last layer that a network has in order of its definition."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1][-1]
