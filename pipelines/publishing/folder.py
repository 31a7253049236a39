"""A folder to publish: weights, configurations, class names, preprocessing, sampling settings, and a model card.

It is a run's folder without what the run was made from: every command and :meth:`Generator.load` take it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from pipelines.artifacts.models import CODES_OF, recipe, save_model
from pipelines.artifacts.origin import Origin
from pipelines.artifacts.provenance import version_of
from pipelines.artifacts.run_folder import RunFolder
from pipelines.config.redaction import redact
from pipelines.distributed.run_lock import RUN_LOCK
from pipelines.publishing.card import Author, Card, write_card
from pipelines.publishing.published import INDEX, LIBRARY, Part
from pipelines.tracking.image_grid import save_image
from stage1_vqvae.files import TEMPORARY, read_yaml, write_json, write_yaml
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.settings import SamplingSettings

PICTURE = "samples.png"

LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""Names of licences on the hub: ``mit``, ``apache-2.0``, ``cc-by-4.0``."""

_LOCAL = re.compile(r"(?:file:/*|[A-Za-z]:)?[/\\].*|~.*", re.DOTALL)


@dataclass(frozen=True)
class Models:
    """What is published.

    Attributes:
        tokenizer: With the weights that are written.
        prior: Likewise; None for a tokenizer alone.
        settings: How the prior samples.
        origin: Where they come from.
        draw: Makes a picture of samples, for a prior.
    """

    tokenizer: Tokenizer
    prior: Prior | None
    settings: SamplingSettings | None
    origin: Origin
    draw: Callable[[], Image.Image] | None = None


def write_folder(folder: Path, models: Models, part: Part, author: Author) -> None:
    """Write a folder to publish, whole or not at all.

    Secrets and this machine's paths are left out.

    Args:
        folder: A new or empty one, or one that this function wrote.
        models: What is published.
        part: ``all``, or ``tokenizer`` or ``prior`` alone. A prior alone is loaded beside its tokenizer.
        author: What its author says of it.

    Raises:
        ValueError: If the folder holds something else, there is no prior to publish, or the licence has no such name.
    """
    check_licence(author.licence)
    if part != "tokenizer" and models.prior is None:
        raise ValueError(
            f"{models.origin.run.path} has no finished prior: part=tokenizer publishes its tokenizer alone"
        )
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found - {RUN_LOCK} and INDEX not in found:
        raise ValueError(f"{folder} holds something else: give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent) as beside:
        new = Path(beside, "new")
        index = write_models(new, models, part)
        picture = PICTURE if part != "tokenizer" else None
        prior = None if part == "tokenizer" else models.prior
        card = Card.of(models.tokenizer, prior, models.origin, index, author, picture)
        write_card(new / "README.md", card)
        write_json(new / INDEX, index)
        if folder.exists():
            folder.rename(Path(beside, "old"))
        new.rename(folder)


def write_models(folder: Path, models: Models, part: Part) -> dict[str, Any]:
    """Write weights, configurations and a picture of samples; returns what :data:`INDEX` says of them."""
    origin = models.origin
    tokenizer = write_tokenizer(folder if part != "prior" else None, models)
    of_codes = origin.tokenizer.get(CODES_OF, tokenizer)
    index: dict[str, Any] = {
        "library_name": LIBRARY,
        "version": version_of(LIBRARY),
        "part": part,
        "tokenizer": of_codes if part == "prior" else tokenizer,
        "image_size": list(models.tokenizer.image_size),
        "channels": models.tokenizer.channels,
        "layout": models.tokenizer.layout.to_dict(),
        "preprocessing": preprocessing(origin.tokenizer),
    }
    if part == "tokenizer":
        return index
    assert models.prior is not None
    assert origin.prior is not None
    assert models.draw is not None
    config = {**described(origin.prior), "tokenizer": of_codes, "sampling": sampling(models)}
    index["prior"] = save_model(RunFolder(folder).prior, "prior", models.prior, config, origin.trust)
    save_image(models.draw(), folder / PICTURE)
    return index | {key: config[key] for key in ("class_names", "sampling")}


def write_tokenizer(folder: Path | None, models: Models) -> str:
    """Write the tokenizer below a folder and return its fingerprint; None keeps nothing."""
    origin = models.origin
    config = without_local_paths(redact(described(origin.tokenizer)))
    # The model's own settings are no descriptions: they stay to the letter.
    config["model"] = origin.tokenizer["model"]
    if folder is None:
        with tempfile.TemporaryDirectory() as aside:
            return save_model(aside, "tokenizer", models.tokenizer, config, origin.trust)
    run = RunFolder(folder)
    if origin.run.data.exists():
        write_yaml(run.data, {**without_local_paths(redact(read_yaml(origin.run.data))), "cache": None})
    return save_model(run.tokenizer, "tokenizer", models.tokenizer, config, origin.trust)


def described(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration without what is written of every model anew."""
    return {key: value for key, value in config.items() if key not in ("kind", "format", "version")}


def preprocessing(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """How images were prepared for a tokenizer, of its configuration; empty where that is not known."""
    found: dict[str, Any] = tokenizer.get("data", {}).get("train", {}).get("preprocessing", {})
    return found


def sampling(models: Models) -> dict[str, Any]:
    """The sampling settings: as the run has them written, unless others were given."""
    assert models.origin.prior is not None
    assert models.settings is not None
    written: dict[str, Any] = models.origin.prior["sampling"]
    same = recipe(written, models.origin.trust).plain() == models.settings.plain()
    found: dict[str, Any] = redact(written if same else models.settings.plain())
    return found


def without_local_paths(plain: Any) -> Any:
    """Plain data in which an absolute path of this machine is its last name alone."""
    if isinstance(plain, Mapping):
        return {key: without_local_paths(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [without_local_paths(value) for value in plain]
    if isinstance(plain, str) and _LOCAL.fullmatch(plain):
        return PurePosixPath(plain.replace("\\", "/")).name
    return plain


def check_licence(licence: str | None) -> None:
    """Raise ValueError unless a licence is named as the hub names them, or not at all."""
    if licence is not None and not (isinstance(licence, str) and LICENCE.fullmatch(licence)):
        raise ValueError(f"license: the hub's name of one expected, as mit, apache-2.0 or cc-by-4.0, got {licence!r}")
