"""What is saved of a model and how it is trusted: plain configuration and weights, and a fingerprint of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipelines.artifacts.provenance import version_of
from pipelines.config.instantiate import build, with_defaults
from pipelines.config.migrations import modernised, modernised_weights
from pipelines.config.redaction import redact
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.files import read_yaml, replacing, write_yaml
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling import SamplingSettings

FORMAT = 2
"""Version of the files that are written; one that is not known is refused rather than guessed at."""

READABLE = (1, 2)
"""Versions that are read: 1 is that of 0.1.0, whose fingerprint covered import paths and descriptions too."""

DESCRIPTIVE = ("class_counts", "class_names", "data", "sampling")
"""What a configuration says of a model that changes none of its numbers."""


CODES_OF = "codes_of"
"""Key of a tokenizer's configuration: fingerprint of the tokenizer whose codes it has, if its decoder is another."""


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The ``config.yaml`` of a ``kind`` of model, by the names of today.

    Raises:
        ValueError: If it is of something else, or of a format that this version does not read.
    """
    config = read_yaml(folder / "config.yaml")
    if not isinstance(config, dict) or config.get("kind") != kind or config.get("format") not in READABLE:
        found = {key: config.get(key) for key in ("kind", "format", "version")} if isinstance(config, dict) else config
        raise ValueError(
            f"{folder}/config.yaml: kind {kind}, format {' or '.join(map(str, READABLE))} expected, got {found}: "
            "use the version that wrote it, or train again"
        )
    named: dict[str, Any] = modernised(config)
    return named


@dataclass(frozen=True)
class Saved:
    """A model's folder, ``config.yaml`` beside ``model.safetensors``, read and checked."""

    folder: Path
    config: dict[str, Any]
    fingerprint: str

    @property
    def codes_fingerprint(self) -> str:
        """What code stores and priors know a tokenizer by; see :func:`codes_fingerprint`."""
        return str(self.config.get(CODES_OF, self.fingerprint))

    @classmethod
    def open(cls, folder: str | Path, kind: str) -> Saved:
        """Read the folder of a ``kind`` ("tokenizer", "prior").

        Raises:
            ValueError: If it does not hold a finished one that this version can read.
        """
        folder = Path(folder)
        for name in ("config.yaml", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} holds no finished {kind} ({name} is missing): train it first")
        return cls(folder, read_config(folder, kind), fingerprint(folder))

    def weights(self, model: type[nn.Module]) -> dict[str, Tensor]:
        """The weights by the names that a class of models has for them today.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self.folder / "model.safetensors"
        try:
            return modernised_weights(model, load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read ({error}): restore it or train again") from error

    def load_weights(self, model: nn.Module) -> None:
        """Load the weights, every one of them and no other.

        Raises:
            ValueError: If the file is damaged or of another model.
        """
        weights = self.weights(type(model))
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if expected != found:
            name = next(name for name in sorted(expected | found) if expected.get(name) != found.get(name))
            raise ValueError(
                f"{self.folder}/model.safetensors does not belong to its config.yaml: {name} is "
                f"{found.get(name, 'missing')}, {expected.get(name, 'no such weight')} expected"
            )
        model.load_state_dict(weights)


def save_model(
    folder: str | Path, kind: str, model: nn.Module, config: Mapping[str, Any], trust: Sequence[str] = ()
) -> str:
    """Write a model's folder, ``config.yaml`` last: a folder that has it is complete.

    Args:
        folder: Where to.
        kind: What the model is, "tokenizer" or "prior" say.
        model: Whose weights are written.
        config: What else is to be known of it; arguments that it leaves to their defaults are written with these, so
            that a later version's defaults change no model.
        trust: Further packages whose classes may be named.

    Returns:
        The fingerprint.
    """
    folder = Path(folder)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(weights))
    write_yaml(folder / "config.yaml", described(kind, config, trust))
    return fingerprint(folder)


def described(kind: str, config: Mapping[str, Any], trust: Sequence[str] = ()) -> dict[str, Any]:
    """What the ``config.yaml`` of a model says; the arguments are those of :func:`save_model`."""
    filled = {key: with_defaults(value, trust, but=config) for key, value in config.items()}
    if "data" in filled:
        filled["data"] = redact(filled["data"])  # nothing of the model itself: it is built from what stands here
    return {"kind": kind, "format": FORMAT, "version": version_of("vqvae-prior"), **filled}


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over a model's weights and what of its configuration changes its numbers, in hexadecimal.

    Of a class only its name counts, not where it is imported from, so that moving one breaks no run. It is a function
    of the two files alone: what a folder was once known by, it is known by in every later version.
    """
    config = read_yaml(Path(folder) / "config.yaml")
    if config.get("format") != 1:
        unread = {*DESCRIPTIVE, "format", "version"}
        config = {key: _by_class_name(value) for key, value in config.items() if key not in unread}
    digest = hashlib.sha256()
    # The configuration's content, not its bytes: a comment or another order of keys makes no other model.
    digest.update(json.dumps(config, sort_keys=True).encode())
    with open(Path(folder) / "model.safetensors", "rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def codes_fingerprint(folder: str | Path) -> str:
    """What makes a tokenizer's codes, apart from its decoder: the fingerprint of the tokenizer that first had them.

    It is the tokenizer's own, unless its decoder was trained further (`pipelines.train_decoder`). Code stores and
    priors belong to it; what is decoded belongs to the tokenizer's own fingerprint.
    """
    return str(read_yaml(Path(folder) / "config.yaml").get(CODES_OF) or fingerprint(folder))


def _by_class_name(plain: Any) -> Any:
    """Plain data in which classes are named without their module."""
    if isinstance(plain, list):
        return [_by_class_name(value) for value in plain]
    if not isinstance(plain, dict):
        return plain
    node = {key: _by_class_name(value) for key, value in plain.items()}
    return node | ({"_target_": str(node["_target_"]).rpartition(".")[2]} if "_target_" in node else {})


def load_tokenizer(folder: str | Path, trust: Sequence[str] = ()) -> tuple[Tokenizer, Saved]:
    """The tokenizer of a folder, in eval mode, and what is known of it."""
    saved = Saved.open(folder, "tokenizer")
    with torch.random.fork_rng(devices=[]):  # the random start, which is not kept, costs the process no numbers
        model = build(saved.config["model"], f"{folder}/config.yaml", trust)
    saved.load_weights(model)
    return model.eval(), saved


def preprocessing_of(config: Mapping[str, Any], tokenizer: Tokenizer) -> Preprocessing:
    """How the images were prepared that a tokenizer was trained on, as far as its configuration says."""
    described = config.get("data", {}).get("train", {}).get("preprocessing", {})
    low_high = described.get("range")
    value_range = (float(low_high[0]), float(low_high[1])) if low_high else None
    return Preprocessing(*tokenizer.image_size, tokenizer.channels, value_range, draft="jpeg" in described)


def load_prior(folder: str | Path, tokenizer: str, trust: Sequence[str] = ()) -> tuple[Prior, Saved]:
    """The prior of a folder, in eval mode, and what is known of it.

    Args:
        folder: Where it lies.
        tokenizer: Fingerprint of the codes of the tokenizer that will decode what it draws.
        trust: Further packages whose classes may be named.

    Raises:
        ValueError: If the prior was trained on another tokenizer's codes.
    """
    saved = Saved.open(folder, "prior")
    model = build_prior(Path(folder), saved.config, tokenizer, trust)
    saved.load_weights(model)
    return model.eval(), saved


def build_prior(folder: Path, config: Mapping[str, Any], tokenizer: str, trust: Sequence[str] = ()) -> Prior:
    """A prior as its configuration describes it, with weights that are not its own yet.

    Args:
        folder: Where the configuration lies.
        config: The configuration.
        tokenizer, trust: Those of :func:`load_prior`.

    Raises:
        ValueError: If it is trained on another tokenizer's codes.
    """
    trained_on = config["tokenizer"]
    if trained_on != tokenizer:
        raise ValueError(
            f"{folder} was trained on codes of tokenizer {trained_on[:12]}, not of {tokenizer[:12]}: "
            "use the tokenizer it belongs to, or extract codes and train the prior again"
        )
    layout = CodeLayout.from_dict(config["layout"])
    with torch.random.fork_rng(devices=[]):
        model: Prior = build(
            config["model"], f"{folder}/config.yaml", trust, layout=layout, num_classes=config["num_classes"]
        )
    return model


def write_recipe(prior: Path, sampling: Mapping[str, Any], trust: Sequence[str] = ()) -> None:
    """Make sampling settings the recipe of a prior's folder, if they are others; it stays the same prior."""
    config = read_yaml(prior / "config.yaml")
    if recipe(config["sampling"], trust).plain() != recipe(sampling, trust).plain():
        write_yaml(prior / "config.yaml", {**config, "sampling": with_defaults(sampling, trust)})


def recipe(sampling: Mapping[str, Any], trust: Sequence[str] = ()) -> SamplingSettings:
    """How a recipe draws from its prior.

    Args:
        sampling: Plain data, ``sampling`` of a configuration.
        trust: Further packages whose classes ``processors`` may name.
    """
    node = {"_target_": "stage2_prior.sampling.SamplingSettings", **sampling}
    found: SamplingSettings = build(node, "sampling", trust)
    return found
