"""diffusers' ``VQModel``: a folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from pipelines.interchange.architecture import Architecture, Layer
from pipelines.interchange.weights import Names, read_safetensors, tokenizer_of, weights_of
from stage1_vqvae.files import read_json, replacing, write_json
from stage1_vqvae.tokenizer import Tokenizer
from stage1_vqvae.vqgan import VQGAN

CONFIG = "config.json"

WEIGHTS = "diffusion_pytorch_model.safetensors"

PLAIN, ATTENDED = ("DownEncoderBlock2D", "UpDecoderBlock2D"), ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D")
"""Kinds of blocks of encoder and decoder, without attention and with."""

DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": [PLAIN[0]],
    "up_block_types": [PLAIN[1]],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 3,
    "sample_size": 32,
    "num_vq_embeddings": 256,
    "norm_num_groups": 32,
    "vq_embed_dim": None,
    "norm_type": "group",
    "mid_block_add_attention": True,
}
"""What a configuration leaves out, as the library has it; of keys that change what the model computes."""

OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names that older versions gave to parts of attention."""


def read_vqmodel(folder: Path, image_size: tuple[int, int] | None = None) -> tuple[VQGAN, dict[str, Any]]:
    """A folder's model as our tokenizer, in eval mode, and its configuration.

    Args:
        folder: Of ``VQModel.save_pretrained``.
        image_size: ``(H, W)`` in pixels; None for the configuration's ``sample_size``.

    Raises:
        ValueError: If it is another model, or has a part that ours lacks.
    """
    architecture = architecture_of(read_json(folder / CONFIG), folder / CONFIG, image_size)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path} is missing: save the model with safe_serialization=True")
    weights = {todays(name): value for name, value in read_safetensors(path).items()}
    return tokenizer_of(architecture, NAMES, weights, path), architecture.settings()


def write_vqmodel(folder: Path, tokenizer: Tokenizer) -> list[Path]:
    """Write a tokenizer as a folder that ``VQModel.from_pretrained`` reads.

    Returns:
        The files.

    Raises:
        ValueError: If it is of another architecture.
    """
    architecture = Architecture.of(tokenizer)
    assert isinstance(tokenizer, VQGAN)
    weights = weights_of(tokenizer, architecture, NAMES)
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(weights, {"format": "pt"}))
    write_json(folder / CONFIG, config_of(architecture))
    return [folder / CONFIG, folder / WEIGHTS]


def architecture_of(config: Any, path: Path, image_size: tuple[int, int] | None = None) -> Architecture:
    """What a configuration describes; the arguments are those of :func:`read_vqmodel`.

    Raises:
        ValueError: If it is another model's, or has a part that ours lacks.
    """
    if not isinstance(config, Mapping) or config.get("_class_name") != "VQModel":
        found = config.get("_class_name") if isinstance(config, Mapping) else type(config).__name__
        raise ValueError(f"{path}: _class_name VQModel expected, got {found}")
    asked = {**DEFAULTS, **config}
    widths = tuple(int(width) for width in asked["block_out_channels"])
    down, up = attended(asked["down_block_types"], 0, path), attended(asked["up_block_types"][::-1], 1, path)
    for key, expected in {"act_fn": "silu", "norm_type": "group", "out_channels": asked["in_channels"]}.items():
        if asked[key] != expected:
            raise ValueError(f"{path}: {key} {expected} expected, got {asked[key]}")
    if down != up or len(widths) != len(asked["down_block_types"]) or len(widths) != len(asked["up_block_types"]):
        raise ValueError(f"{path}: up_block_types are not the mirror of down_block_types")
    size = asked["sample_size"]
    height, width = image_size or (size if isinstance(size, Sequence) else (size, size))
    return Architecture(
        (int(height), int(width)),
        asked["in_channels"],
        widths,
        asked["layers_per_block"],
        bool(asked["mid_block_add_attention"]),
        down,
        asked["latent_channels"],
        asked["vq_embed_dim"] or asked["latent_channels"],
        asked["num_vq_embeddings"],
        asked["norm_num_groups"],
    )


def attended(kinds: Sequence[str], part: int, path: Path) -> tuple[int, ...]:
    """Resolutions with attention, of the kinds of blocks of the encoder (part 0) or the decoder (1)."""
    unknown = [kind for kind in kinds if kind not in (PLAIN[part], ATTENDED[part])]
    if unknown:
        raise ValueError(f"{path}: blocks {PLAIN[part]} or {ATTENDED[part]} expected, got {unknown[0]}")
    return tuple(level for level, kind in enumerate(kinds) if kind == ATTENDED[part])


def config_of(architecture: Architecture) -> dict[str, Any]:
    """The library's configuration of an architecture."""
    levels = range(len(architecture.widths))
    down, up = (
        [(ATTENDED if level in architecture.attention_at else PLAIN)[part] for level in levels] for part in (0, 1)
    )
    height, width = architecture.image_size
    return {
        "_class_name": "VQModel",
        "in_channels": architecture.channels,
        "out_channels": architecture.channels,
        "down_block_types": down,
        "up_block_types": up[::-1],
        "block_out_channels": list(architecture.widths),
        "layers_per_block": architecture.layers,
        "act_fn": "silu",
        "latent_channels": architecture.latent_dim,
        "sample_size": height if height == width else [height, width],
        "num_vq_embeddings": architecture.codebook_size,
        "norm_num_groups": architecture.norm_groups,
        "vq_embed_dim": architecture.code_dim,
        "norm_type": "group",
        "mid_block_add_attention": architecture.attention,
    }


def name_of_block(layer: Layer) -> str:
    """The library's name of a layer between the first and the last."""
    kind = "resnets" if layer.kind == "residual" else "attentions"
    if layer.role == "middle":
        return f"mid_block.{kind}.{layer.index}"
    blocks, sampler = ("down_blocks", "downsamplers") if layer.part == "encoder" else ("up_blocks", "upsamplers")
    kind = f"{sampler}.0.conv" if layer.role == "resampling" else f"{kind}.{layer.index}"
    return f"{blocks}.{layer.turn}.{kind}"


def todays(name: str) -> str:
    """A weight's name in newer versions of the library."""
    if ".attentions." not in name:
        return name
    before, part, parameter = name.rsplit(".", 2)
    return f"{before}.{OLDER.get(part, part)}.{parameter}"


NAMES = Names(
    "conv_norm_out", name_of_block, "conv_shortcut", ("group_norm", "to_q", "to_k", "to_v", "to_out.0"), linear=True
)
