"""The architecture that published VQGANs share, and where each of its layers is in ours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from stage1_vqvae.quantizers import Projected
from stage1_vqvae.quantizers.nearest_neighbour import NearestNeighbour
from stage1_vqvae.tokenizer import Tokenizer
from stage1_vqvae.vqgan import VQGAN

EPS = 1e-6
"""What every published VQGAN adds to a variance."""

Kind = Literal["convolution", "norm", "residual", "attention"]

Role = Literal["first", "block", "resampling", "middle", "last norm", "last"]


@dataclass(frozen=True)
class Layer:
    """A layer of encoder or decoder.

    Attributes:
        ours: Name of the module in :class:`~stage1_vqvae.vqgan.VQGAN`.
        kind: What it is.
        part: ``encoder`` or ``decoder``.
        role: Where it stands.
        level: Its resolution, 0 for the image's own.
        turn: How many resolutions come before it in its part.
        index: Which of its kind it is, in its role and at its resolution.
        widens: Whether other channels go out than come in.
    """

    ours: str
    kind: Kind
    part: Literal["encoder", "decoder"]
    role: Role
    level: int = 0
    turn: int = 0
    index: int = 0
    widens: bool = False


@dataclass(frozen=True)
class Architecture:
    """What describes a published VQGAN, whoever wrote its files.

    Attributes:
        image_size: ``(H, W)`` in pixels.
        channels: Of an image.
        widths: Channels at each resolution, the image's own first.
        layers: Residual blocks at each resolution of the encoder; the decoder has one more.
        attention: Whether there is attention at the lowest resolution, between the middle's blocks.
        attention_at: Resolutions with attention behind each residual block.
        latent_dim: Channels between the networks and the 1×1 convolutions around the quantizer.
        code_dim: Channels of a codebook vector.
        codebook_size: Number of them.
        norm_groups: Groups of every normalization.
    """

    image_size: tuple[int, int]
    channels: int
    widths: tuple[int, ...]
    layers: int
    attention: bool
    attention_at: tuple[int, ...]
    latent_dim: int
    code_dim: int
    codebook_size: int
    norm_groups: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Architecture:
        """That of one of our tokenizers.

        Raises:
            ValueError: If it is of another architecture.
        """
        if not isinstance(tokenizer, VQGAN):
            raise ValueError(f"a {type(tokenizer).__name__} is no VQGAN: train with stage1/network=vqmodel")
        style, (encoder_layers, decoder_layers) = tokenizer.style, tokenizer.layers
        quantizer = tokenizer.quantizer
        inner = quantizer.quantizer if isinstance(quantizer, Projected) else quantizer
        differences = {
            "its blocks are not made as published": style.border != "corner" or style.norm_eps != EPS,
            "its norm_groups are not set": style.norm_groups is None,
            f"the decoder has {decoder_layers} layers, not {encoder_layers + 1}": decoder_layers != encoder_layers + 1,
            f"its padding is {tokenizer.padding}": tokenizer.padding != 0,
            "its decoder gives a likelihood": tokenizer.likelihood is not None,
            f"its quantizer, {type(inner).__name__}, looks for no nearest vector": not isinstance(
                inner, NearestNeighbour
            ),
        }
        for difference, found in differences.items():
            if found:
                raise ValueError(f"the tokenizer is no VQModel, {difference}: train with stage1/network=vqmodel")
        assert style.norm_groups is not None
        return cls(
            tokenizer.image_size,
            tokenizer.channels,
            tokenizer.widths,
            encoder_layers,
            tokenizer.attention,
            tuple(style.attention_at),
            quantizer.dim,
            inner.dim,
            inner.codebook_sizes[0],
            style.norm_groups,
        )

    def settings(self) -> dict[str, Any]:
        """The configuration of our tokenizer of this architecture."""
        width = math.gcd(*self.widths)
        style = {
            "_target_": "stage1_vqvae.networks.BlockStyle",
            "norm_groups": self.norm_groups,
            "norm_eps": EPS,
            "border": "corner",
            "attention_at": list(self.attention_at),
        }
        codebook = {
            "_target_": "stage1_vqvae.quantizers.VectorQuantizer",
            "dim": self.code_dim,
            "codebook_size": self.codebook_size,
            "init": "random",
        }
        quantizer = {"_target_": "stage1_vqvae.quantizers.Projected", "quantizer": codebook, "dim": self.latent_dim}
        return {
            "_target_": "stage1_vqvae.VQGAN",
            "image_size": list(self.image_size),
            "channels": self.channels,
            "quantizer": quantizer,
            "width": width,
            "multipliers": [channels // width for channels in self.widths],
            "layers": [self.layers, self.layers + 1],
            "attention": self.attention,
            "style": style,
        }

    def every_layer(self) -> Iterator[Layer]:
        """The layers of encoder and decoder, in our order."""
        lowest = len(self.widths) - 1
        yield Layer("encoder.first", "convolution", "encoder", "first")
        numbers = count()
        for level in range(lowest + 1):
            narrower = self.widths[max(level - 1, 0)] != self.widths[level]
            yield from self._blocks("encoder", level, self.layers, narrower, numbers)
            if level < lowest:
                yield Layer(block("encoder", numbers), "convolution", "encoder", "resampling", level, level)
        yield from self._middle("encoder", numbers)
        yield from ends("encoder")
        yield Layer("decoder.first", "convolution", "decoder", "first")
        numbers = count()
        yield from self._middle("decoder", numbers)
        for level in reversed(range(lowest + 1)):
            wider = self.widths[min(level + 1, lowest)] != self.widths[level]
            yield from self._blocks("decoder", level, self.layers + 1, wider, numbers)
            if level > 0:
                yield Layer(
                    f"{block('decoder', numbers)}.1", "convolution", "decoder", "resampling", level, lowest - level
                )
        yield from ends("decoder")

    def _blocks(
        self, part: Literal["encoder", "decoder"], level: int, layers: int, widens: bool, numbers: Iterator[int]
    ) -> Iterator[Layer]:
        turn = level if part == "encoder" else len(self.widths) - 1 - level
        for index in range(layers):
            yield Layer(block(part, numbers), "residual", part, "block", level, turn, index, widens and index == 0)
            if level in self.attention_at:
                yield Layer(block(part, numbers), "attention", part, "block", level, turn, index)

    def _middle(self, part: Literal["encoder", "decoder"], numbers: Iterator[int]) -> Iterator[Layer]:
        yield Layer(block(part, numbers), "residual", part, "middle", index=0)
        if self.attention:
            yield Layer(block(part, numbers), "attention", part, "middle")
        yield Layer(block(part, numbers), "residual", part, "middle", index=1)


def block(part: str, numbers: Iterator[int]) -> str:
    """Name of the next of our blocks."""
    return f"{part}.blocks.blocks.{next(numbers)}"


def ends(part: Literal["encoder", "decoder"]) -> Iterator[Layer]:
    """What ends a network."""
    yield Layer(f"{part}.last.0", "norm", part, "last norm")
    yield Layer(f"{part}.last.2", "convolution", part, "last")
