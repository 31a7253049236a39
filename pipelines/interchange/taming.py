"""Checkpoints of taming-transformers' VQGAN (arXiv 2012.09841), also those of latent diffusion's ``VQModel``.

The configuration is YAML, the weights are safetensors, or a file of Lightning's of which nothing but tensors is read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.interchange.architecture import Architecture, Layer
from pipelines.interchange.weights import Names, read_safetensors, tokenizer_of
from stage1_vqvae.files import read_yaml
from stage1_vqvae.vqgan import VQGAN

MODELS = ("VQModel", "VQModelInterface", "VQNoDiscModel")
"""Classes whose networks and quantizer ours has."""

GROUPS = 32
"""Of every normalization."""


def read_taming(
    checkpoint: Path, config: Path | None = None, image_size: tuple[int, int] | None = None
) -> tuple[VQGAN, dict[str, Any]]:
    """A checkpoint's model as our tokenizer, in eval mode, and its configuration.

    Args:
        checkpoint: ``.safetensors``, or ``.ckpt`` or ``.pt`` with the weights in ``state_dict``.
        config: Its YAML; None for the one YAML file beside it.
        image_size: ``(H, W)`` in pixels; None for the configuration's ``resolution``.

    Raises:
        ValueError: If it is another model, has a part that ours lacks, or the file holds more than tensors.
    """
    path = config or beside(checkpoint)
    architecture = architecture_of(read_yaml(path), path, image_size)
    return tokenizer_of(architecture, NAMES, read_weights(checkpoint), checkpoint), architecture.settings()


def beside(checkpoint: Path) -> Path:
    """The one YAML file in a checkpoint's folder, or in the ``configs`` beside that."""
    for folder in (checkpoint.parent, checkpoint.parent.parent / "configs"):
        found = sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
        if len(found) == 1:
            return found[0]
    raise ValueError(f"{checkpoint}: no YAML file, or more than one, lies beside it: give config=")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by their names.

    Raises:
        ValueError: If it cannot be read, or holds anything but plain data and tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds Python objects, which are not loaded: where you trust it, save its state_dict with "
            "safetensors.torch.save_file and give that file"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    weights = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError(f"{path}: a state_dict expected, got {type(found).__name__}")
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def architecture_of(config: Any, path: Path, image_size: tuple[int, int] | None = None) -> Architecture:
    """What a configuration describes; the arguments are those of :func:`read_taming`.

    Raises:
        ValueError: If it is another model's, or has a part that ours lacks.
    """
    try:
        model = config["model"]
        target, params, networks = model["target"], model["params"], model["params"]["ddconfig"]
        multipliers = [int(each) for each in networks["ch_mult"]]
        width, layers, resolution = networks["ch"], networks["num_res_blocks"], networks["resolution"]
        sizes = (networks["z_channels"], params["embed_dim"], params["n_embed"])
        channels = networks["in_channels"]
        attention_at = list(networks["attn_resolutions"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: the configuration of a VQGAN expected, {error} is missing") from error
    if str(target).rpartition(".")[2] not in MODELS:
        raise ValueError(f"{path}: target {' or '.join(MODELS)} expected, got {target}")
    plain = {"double_z": False, "resamp_with_conv": True, "attn_type": "vanilla", "use_linear_attn": False}
    for key, expected in {**plain, "out_ch": channels}.items():
        if networks.get(key, expected) != expected:
            raise ValueError(f"{path}: {key} {expected} expected, got {networks[key]}")
    if multipliers[0] != 1:
        raise ValueError(f"{path}: ch_mult starts with 1 in models that can be read, got {multipliers}")
    return Architecture(
        image_size or (resolution, resolution),
        channels,
        tuple(width * multiplier for multiplier in multipliers),
        layers,
        attention=True,
        attention_at=tuple(level for level in range(len(multipliers)) if resolution // 2**level in attention_at),
        latent_dim=sizes[0],
        code_dim=sizes[1],
        codebook_size=sizes[2],
        norm_groups=GROUPS,
    )


def name_of_block(layer: Layer) -> str:
    """taming's name of a layer between the first and the last."""
    if layer.role == "middle":
        return f"mid.{'attn_1' if layer.kind == 'attention' else f'block_{layer.index + 1}'}"
    levels, resampling = ("down", "downsample.conv") if layer.part == "encoder" else ("up", "upsample.conv")
    kind = "block" if layer.kind == "residual" else "attn"
    return f"{levels}.{layer.level}." + (resampling if layer.role == "resampling" else f"{kind}.{layer.index}")


NAMES = Names("norm_out", name_of_block, "nin_shortcut", ("norm", "q", "k", "v", "proj_out"), linear=False)
