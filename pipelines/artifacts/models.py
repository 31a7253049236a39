"""What is saved of a model and how it is trusted: plain configuration and weights, and a fingerprint of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from pipelines.config.instantiate import build
from pipelines.config.redaction import redact
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import replacing
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.sampler import SamplingSettings

FORMAT = 1
"""Version of the files; one that is not known is refused rather than guessed at."""


@dataclass(frozen=True)
class Saved:
    """A model's folder, ``config.yaml`` beside ``model.safetensors``, read and checked."""

    folder: Path
    config: dict[str, Any]
    fingerprint: str

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
        config = read_yaml(folder / "config.yaml")
        if not isinstance(config, dict) or config.get("kind") != kind or config.get("format") != FORMAT:
            found = {key: config.get(key) for key in ("kind", "format")} if isinstance(config, dict) else config
            raise ValueError(f"{folder}/config.yaml: kind {kind}, format {FORMAT} expected, got {found}")
        return cls(folder, config, fingerprint(folder))

    def load_weights(self, model: nn.Module) -> None:
        """Load the weights, every one of them and no other.

        Raises:
            ValueError: If the file is damaged or of another model.
        """
        path = self.folder / "model.safetensors"
        try:
            weights = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read ({error}): restore it or train again") from error
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if expected != found:
            name = next(name for name in sorted(expected | found) if expected.get(name) != found.get(name))
            raise ValueError(
                f"{path} does not belong to its config.yaml: {name} is {found.get(name, 'missing')}, "
                f"{expected.get(name, 'no such weight')} expected"
            )
        model.load_state_dict(weights)


def save_model(folder: str | Path, kind: str, model: nn.Module, config: Mapping[str, Any]) -> str:
    """Write a model's folder, ``config.yaml`` last: a folder that has it is complete.

    Returns:
        The fingerprint.
    """
    folder = Path(folder)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(weights))
    write_yaml(folder / "config.yaml", redact({"kind": kind, "format": FORMAT, **config}))
    return fingerprint(folder)


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over a model's configuration and weights, in hexadecimal."""
    digest = hashlib.sha256()
    # The configuration's content, not its bytes: a comment or another order of keys makes no other model.
    digest.update(json.dumps(read_yaml(Path(folder) / "config.yaml"), sort_keys=True).encode())
    with open(Path(folder) / "model.safetensors", "rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_tokenizer(folder: str | Path, trust: Sequence[str] = ()) -> tuple[Tokenizer, Saved]:
    """The tokenizer of a folder, in eval mode, and what is known of it."""
    saved = Saved.open(folder, "tokenizer")
    model = build(saved.config["model"], f"{folder}/config.yaml", trust)
    saved.load_weights(model)
    return model.eval(), saved


def load_prior(folder: str | Path, tokenizer: str, trust: Sequence[str] = ()) -> tuple[Prior, Saved]:
    """The prior of a folder, in eval mode, and what is known of it.

    Args:
        folder: Where it lies.
        tokenizer: Fingerprint of the tokenizer that will decode its codes.
        trust: Further packages whose classes may be named.

    Raises:
        ValueError: If the prior was trained on another tokenizer's codes.
    """
    saved = Saved.open(folder, "prior")
    trained_on = saved.config["tokenizer"]
    if trained_on != tokenizer:
        raise ValueError(
            f"{folder} was trained on codes of tokenizer {trained_on[:12]}, not of {tokenizer[:12]}: "
            "use the tokenizer it belongs to, or extract codes and train the prior again"
        )
    layout = CodeLayout.from_dict(saved.config["layout"])
    model = build(
        saved.config["model"], f"{folder}/config.yaml", trust, layout=layout, num_classes=saved.config["num_classes"]
    )
    saved.load_weights(model)
    return model.eval(), saved


def sampling_settings(saved: Saved) -> SamplingSettings:
    """How the recipe that trained a prior draws from it."""
    return SamplingSettings(**saved.config["sampling"])


def read_yaml(path: str | Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        ValueError: If it is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def write_yaml(path: str | Path, plain: Any) -> None:
    """Write plain data, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
