"""Weights by the names of other libraries, to ours and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipelines.config.instantiate import build
from pipelines.interchange.architecture import Architecture, Layer
from stage1_vqvae.quantizers import Projected
from stage1_vqvae.quantizers.nearest_neighbour import NearestNeighbour
from stage1_vqvae.vqgan import VQGAN

RESIDUAL = {"layers.0": "norm1", "layers.2": "conv1", "layers.3": "norm2", "layers.5": "conv2"}
"""Parts of a residual block, ours and everyone's."""

ATTENTION = ("qkv.weight", "output.weight")
"""Our weights of attention."""

CODEBOOK = "quantize.embedding.weight"

OWN_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
"""What names of a tokenizer's weights begin with; a checkpoint has others too, of what it was trained against."""


@dataclass(frozen=True)
class Names:
    """How a library names what its VQGAN has.

    Attributes:
        last_norm: Of the normalization before the last convolution.
        block: A layer's name in its part, where it is neither of these nor the first.
        shortcut: Of a residual block that widens.
        attention: Of attention's normalization, query, key, value and output.
        linear: Whether attention's weights are matrices, not 1×1 convolutions.
    """

    last_norm: str
    block: Callable[[Layer], str]
    shortcut: str
    attention: tuple[str, str, str, str, str]
    linear: bool

    def of(self, layer: Layer) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each of our modules in a layer, with the library's modules that it stands for, one above the other."""
        ends = {"first": "conv_in", "last": "conv_out", "last norm": self.last_norm}
        theirs = f"{layer.part}.{ends.get(layer.role) or self.block(layer)}"
        if layer.kind == "residual":
            parts = RESIDUAL | ({"shortcut": self.shortcut} if layer.widens else {})
            for mine, name in parts.items():
                yield f"{layer.ours}.{mine}", (f"{theirs}.{name}",)
        elif layer.kind == "attention":
            norm, *qkv, output = (f"{theirs}.{name}" for name in self.attention)
            yield f"{layer.ours}.norm", (norm,)
            yield f"{layer.ours}.qkv", tuple(qkv)
            yield f"{layer.ours}.output", (output,)
        else:
            yield layer.ours, (theirs,)

    def every_name(self, architecture: Architecture) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Every parameter of our encoder and decoder, with theirs that it stands for."""
        for layer in architecture.every_layer():
            for mine, theirs in self.of(layer):
                for parameter in ("weight", "bias"):
                    yield f"{mine}.{parameter}", tuple(f"{name}.{parameter}" for name in theirs)


def tokenizer_of(architecture: Architecture, names: Names, weights: Mapping[str, Tensor], source: Path) -> VQGAN:
    """Our tokenizer of an architecture with a library's weights, in eval mode.

    Args:
        architecture: As the library's configuration describes it.
        names: The library's.
        weights: By these names.
        source: Where they come from, for messages.

    Raises:
        ValueError: If a weight is missing or of another shape, or there is one that the architecture lacks.
    """
    tokenizer: VQGAN = build(architecture.settings(), str(source))
    own, left = tokenizer.state_dict(), {name for name in weights if name.startswith(OWN_PARTS)}
    pairs = dict(names.every_name(architecture))
    pairs |= {
        f"quantizer.{mine}.{parameter}": (f"{theirs}.{parameter}",)
        for mine, theirs in (("project_in", "quant_conv"), ("project_out", "post_quant_conv"))
        for parameter in ("weight", "bias")
    }
    pairs["quantizer.quantizer.codebook"] = (CODEBOOK,)
    for mine, theirs in pairs.items():
        missing = [name for name in theirs if name not in weights]
        if missing:
            raise ValueError(f"{source}: {missing[0]} is missing: it is not of the model that its configuration says")
        left -= set(theirs)
        given = [weights[name].float() for name in theirs]
        found = torch.cat([each.flatten(1) if each.ndim > 1 else each for each in given])
        if found.numel() != own[mine].numel() or len(found) != len(own[mine]):
            expected = [len(own[mine]) // len(theirs), *own[mine].shape[1:]]
            raise ValueError(f"{source}: {theirs[0]} is {list(given[0].shape)}, {expected} expected")
        own[mine].copy_(found.view_as(own[mine]))
    if left:
        raise ValueError(f"{source}: nothing in this architecture stands for {min(left)}: it is another model")
    return tokenizer.eval()


def weights_of(tokenizer: VQGAN, architecture: Architecture, names: Names) -> dict[str, Tensor]:
    """A tokenizer's weights by a library's names; what projects nothing becomes a convolution that changes nothing."""
    own = tokenizer.state_dict()
    found: dict[str, Tensor] = {}
    for mine, theirs in names.every_name(architecture):
        for name, part in zip(theirs, own[mine].chunk(len(theirs)), strict=True):
            found[name] = part.flatten(1) if names.linear and mine.endswith(ATTENTION) else part
    quantizer = tokenizer.quantizer
    inner = quantizer.quantizer if isinstance(quantizer, Projected) else quantizer
    assert isinstance(inner, NearestNeighbour)
    found[CODEBOOK] = inner.codewords()
    for name, mine in (("quant_conv", "project_in"), ("post_quant_conv", "project_out")):
        if isinstance(quantizer, Projected):
            projection = getattr(quantizer, mine)
            weight, bias = projection.weight, projection.bias
        else:
            weight, bias = torch.eye(quantizer.dim), torch.zeros(quantizer.dim)
        found |= {f"{name}.weight": weight[..., None, None], f"{name}.bias": bias}
    return {name: value.detach().float().cpu().clone().contiguous() for name, value in found.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Weights of a file; ValueError if it cannot be read."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
