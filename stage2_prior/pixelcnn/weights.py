"""A gated stack's weights as its incremental form reads them: matrices that take features from the left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stage2_prior.norms import ChannelNorm
from stage2_prior.pixelcnn.attention import AttentionWeights
from stage2_prior.pixelcnn.layers import GatedLayer


class LayerWeights(NamedTuple):
    """A gated layer's convolutions, multiplied with the weights of the norms before them; r is ``kernel // 2``."""

    vertical: Tensor  # [k, (r + 1) * C, 2C]: columns of the kernel apart, each sees the row from another shift
    horizontal: Tensor  # [(r + 1) * C, 2C]
    vertical_to_horizontal: Tensor  # [2C, 2C]
    condition: Tensor  # [4C, C]: for a linear layer
    bias: Tensor  # [4C]: of both convolutions, added with the condition
    residual: Tensor  # [C, C]
    residual_bias: Tensor  # [C]

    @classmethod
    def of(cls, layer: GatedLayer) -> LayerWeights:
        """Copy those of a layer."""
        return cls(
            after_norm(layer.vertical, layer.vertical_norm).permute(3, 2, 1, 0).flatten(1, 2).contiguous(),
            after_norm(layer.horizontal, layer.horizontal_norm).permute(2, 3, 1, 0).flatten(0, 2).contiguous(),
            layer.vertical_to_horizontal.weight[:, :, 0, 0].T.contiguous(),
            layer.condition.weight[:, :, 0, 0].clone(),
            torch.cat([bias_of(layer.vertical), bias_of(layer.horizontal)]),
            layer.residual.weight[:, :, 0, 0].T.contiguous(),
            bias_of(layer.residual).clone(),
        )


class StackWeights(NamedTuple):
    """A gated stack's weights; :meth:`~stage2_prior.pixelcnn.stack.GatedStack.folded` makes them."""

    kernel: int
    codes: Tensor  # [codebook size + 1, C]: the last row, of no code, is zero
    positions: Tensor  # [H, W, C]
    layers: list[LayerWeights]
    attention: dict[int, AttentionWeights]  # by the index of the layer that it comes after
    head: list[tuple[Tensor, Tensor]]  # weights and biases of linear layers

    def tensors(self) -> Iterator[Tensor]:
        """All tensors, always in the same order."""
        yield from (self.codes, self.positions)
        for part in (*self.layers, *self.attention.values(), *self.head):
            yield from (value for value in part if isinstance(value, Tensor))


def after_norm(convolution: nn.Conv2d, norm: ChannelNorm) -> Tensor:
    """The weight ``[2C, C, k, k]`` of a convolution of what a norm without a weight returns."""
    return convolution.weight * norm.weight[:, None, None]


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias ``[C]`` of a convolution that has one."""
    assert layer.bias is not None
    return layer.bias
