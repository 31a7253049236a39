"""A tokenizer of which the decoder alone is trained: its codes stay what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from stage1_vqvae.code_noise import CodeNoise, check_codebooks
from stage1_vqvae.levels import LevelTokenizer
from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.tokenizer import Tokenizer


class FrozenCodes(LevelTokenizer):
    """A tokenizer in which all is frozen that its codes depend on; what trains a tokenizer trains its decoder.

    Encoder and quantizers have no gradient, stay in eval mode and never step, so that they are the same to the bit
    after a training. In training the decoder sees the codes of the images, some of them replaced; in eval mode, as it
    is validated, the codes themselves.

    Args:
        tokenizer: Becomes part of it, and is trained in place.
        noise: Share of codes that are replaced in training; see :class:`~stage1_vqvae.code_noise.CodeNoise`.
        neighbours: How many of the nearest codes another one is drawn from.

    Raises:
        ValueError: If the tokenizer has no decoder that is known of, or one that codes depend on, or the noise does not
            go with its codebooks.
    """

    def __init__(self, tokenizer: Tokenizer, noise: float = 0.0, neighbours: int = 8) -> None:
        if not isinstance(tokenizer, LevelTokenizer):
            raise ValueError(f"{type(tokenizer).__name__} has no decoder that can be trained by itself")
        decoder = [parameter for parameter in decoding_parameters(tokenizer) if parameter.requires_grad]
        levels, form = tokenizer.levels, (tokenizer.padding, tokenizer.likelihood)
        super().__init__(tokenizer.image_size, tokenizer.channels, levels, tokenizer.cells, *form)
        self.tokenizer = tokenizer.requires_grad_(False)
        for parameter in decoder:
            parameter.requires_grad_(True)
        if noise:
            check_codebooks(self.layout.codebook_sizes)
        self.noise = CodeNoise(self.layout, tokenizer.codebooks() if noise else (), noise, neighbours)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the decoder's mode; all else stays in eval mode."""
        super().train(mode)
        self.tokenizer.eval()
        for name in self.tokenizer.decoding:
            self.tokenizer.get_submodule(name).train(mode)
        return self

    @property
    def levels(self) -> list[Quantizer]:
        """The quantizers, coarse to fine."""
        return self.tokenizer.levels

    @property
    def last_layer(self) -> nn.Parameter:
        """Weights of the decoder's last layer."""
        return self.tokenizer.last_layer

    @torch.no_grad()
    def quantize(self, images: Tensor) -> list[Quantized]:
        """Latents of the codes of padded ``images [B, C, H + 2p, W + 2p]`` in [-1, 1], some replaced in training.

        Their loss is 0.
        """
        levels = self.tokenizer.quantize(images)
        if not self.training or not self.noise.share:
            return [level._replace(loss=torch.zeros_like(level.loss)) for level in levels]
        codes = self._split(self.noise(self._join([level.codes for level in levels])), self.layout)
        found = zip(self.levels, codes, levels, strict=True)
        return [Quantized(quantizer.lookup(part), part, torch.zeros_like(was.loss)) for quantizer, part, was in found]

    def decode_latents(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs ``[B, outputs, H + 2p, W + 2p]`` of each level's quantized latents ``[B, D, h, w]``."""
        return self.tokenizer.decode_latents(latents)

    def step(self) -> None:
        """Nothing: codebooks stay."""

    def discard(self) -> None:
        """Nothing: codebooks gather nothing."""


def decoding_parameters(tokenizer: LevelTokenizer) -> list[nn.Parameter]:
    """Parameters of a tokenizer's decoder.

    Raises:
        ValueError: If the class does not say which they are, or codes depend on one of them.
    """
    if not tokenizer.decoding:
        raise ValueError(f"{type(tokenizer).__name__} has no decoding: name the modules that decode alone")
    inside = tuple(f"{name}." for name in tokenizer.decoding)
    named = list(tokenizer.named_parameters(remove_duplicate=False))
    found = {id(parameter): parameter for name, parameter in named if name.startswith(inside)}
    for name, parameter in named:
        if id(parameter) in found and not name.startswith(inside):
            raise ValueError(f"{name} is a weight of the decoder too: codes would change with it")
    return list(found.values())
