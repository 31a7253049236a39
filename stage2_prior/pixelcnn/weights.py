"""A gated stack's weights as its incremental form reads them: matrices that take features from the left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.norms import ChannelNorm

if TYPE_CHECKING:
    from stage2_prior.pixelcnn.model import GatedLayer, GatedStack


class LayerWeights(NamedTuple):
    """A gated layer's convolutions, multiplied with the weights of the norms before them."""

    vertical: Tensor  # [k, (r + 1) * C, 2C]: columns of the kernel apart, each sees the row from another shift
    horizontal: Tensor  # [(r + 1) * C, 2C]
    vertical_to_horizontal: Tensor  # [2C, 2C]
    condition: Tensor  # [4C, C]: for a linear layer
    bias: Tensor  # [4C]: of both convolutions, added with the condition
    residual: Tensor  # [C, C]
    residual_bias: Tensor  # [C]

    @classmethod
    def of(cls, layer: GatedLayer) -> LayerWeights:
        """Copies."""
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
    """A gated stack's weights, its attention aside."""

    codes: Tensor  # [codebook size + 1, C]: the last row, of no code, is zero
    places: Tensor  # [H, W, C]
    layers: list[LayerWeights]
    head: list[tuple[Tensor, Tensor]]  # weights and biases of linear layers

    @classmethod
    @torch.inference_mode()
    def of(cls, stack: GatedStack) -> StackWeights:
        """Copies of a stack's."""
        last = [layer for layer in stack.head if isinstance(layer, nn.Conv2d)]
        return cls(
            F.pad(stack.code.weight, (0, 0, 0, 1)),
            stack.place.permute(1, 2, 0).contiguous(),
            [LayerWeights.of(layer) for layer in stack.gated_layers],
            [(layer.weight[:, :, 0, 0].clone(), bias_of(layer).clone()) for layer in last],
        )

    @torch.inference_mode()
    def copy_from(self, stack: GatedStack) -> None:
        """Take a stack's weights as they are now, without moving to other memory."""
        for mine, new in zip(self.tensors(), StackWeights.of(stack).tensors(), strict=True):
            mine.copy_(new)

    def tensors(self) -> Iterator[Tensor]:
        """All of them, in order."""
        yield from (self.codes, self.places)
        for tensors in (*self.layers, *self.head):
            yield from tensors


def after_norm(convolution: nn.Conv2d, norm: ChannelNorm) -> Tensor:
    """The weight ``[2C, C, k, k]`` of a convolution of what a norm without a weight returns."""
    return convolution.weight * norm.weight[:, None, None]


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias ``[C]`` of a convolution that has one."""
    assert layer.bias is not None
    return layer.bias
