"""The model card: a ``README.md`` with the hub's header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.artifacts.origin import Origin
from pipelines.config.claims import SETTINGS
from pipelines.evaluation.wording import TITLES, Row, rows
from pipelines.publishing.hub import PREFIX
from pipelines.publishing.published import LIBRARY
from pipelines.report.evaluation import Evaluation
from pipelines.report.page import templates
from stage1_vqvae.files import read_json, read_yaml, replacing
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.settings import SamplingSettings

TASK = "unconditional-image-generation"
"""The hub's name of what the models do."""

INTENDED = {
    "all": "To draw images like those of its training data, to complete and to compress such images, and to study "
    "discrete latents and autoregressive priors.",
    "tokenizer": "To turn images like those of its training data into codes and back, and to train priors on them.",
    "prior": "To draw codes beside the tokenizer that it was trained on.",
}

AT_THE_END = (("tokenizer", "Reconstructions of held-out images"), ("prior", "Held-out codes under the prior"))
"""Folders with the metrics at the end of a training, which stand for those of an evaluation that was not made."""

DEFAULTS = SamplingSettings().plain()

TOKENIZERS = [TITLES[section] for section in ("reconstruction", "codes", "latents")]
"""Sections of an evaluation that are of a tokenizer alone."""

NOT_LISTED = [TITLES[section] for section in ("latents", "training_images", "copies")]
"""Sections that the header leaves to the text: they are no quality of the model."""


@dataclass(frozen=True)
class Author:
    """What the author of a model says of it.

    Attributes:
        licence: Under which others may use it, by its name on the hub; None leaves it open.
        description: The first lines of the card; None for none.
        name: On the hub, ``user/name``, where it is known.
    """

    licence: str | None = None
    description: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        part: What is published.
        tokenizer: The tokenizer, described in words.
        prior: The prior; empty without one.
        fingerprints: By model.
        size: Height, width and channels of the images.
        author: What its author says of it.
        picture: File of the samples; None for none.
        preprocessing: How images were prepared.
        sampling: Settings of the prior that are not the usual ones.
        classes: How many; None without a prior.
        source: What the training images are called.
        on_hub: Whether that is the name of a data set on the hub.
        count: How many there were; 0 where that is not known.
        reading: What the metrics say, in a sentence.
        panels: Titles of sections and their metrics.
        remarks: What a reader has to know of them.
    """

    part: str
    tokenizer: str
    prior: str
    fingerprints: Mapping[str, str]
    size: tuple[int, int, int]
    author: Author
    picture: str | None
    preprocessing: Mapping[str, Any]
    sampling: Mapping[str, Any]
    classes: int | None
    source: str
    on_hub: bool
    count: int
    reading: str
    panels: list[tuple[str, list[Row]]]
    remarks: list[str]

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        prior: Prior | None,
        origin: Origin,
        index: Mapping[str, Any],
        author: Author,
        picture: str | None,
    ) -> Card:
        """The card of a folder with an index; the other arguments are those of ``write_folder``."""
        names: Mapping[str, Any] = read_yaml(origin.run.data) if origin.run.data.exists() else {}
        on_hub = str(names.get("_target_")).endswith(".Hub") and not Path(str(names["name"])).exists()
        train = origin.tokenizer.get("data", {}).get("train", {})
        source = str(names["name"]) if on_hub else Path(str(train.get("source", ""))).name
        reading, panels, remarks = measured(origin, "tokenizer" if prior is None else "prior")
        return cls(
            str(index["part"]),
            in_words(tokenizer),
            "" if prior is None else in_words(prior),
            {kind: str(index[kind]) for kind in ("tokenizer", "prior") if kind in index},
            (*tokenizer.image_size, tokenizer.channels),
            author,
            picture,
            index["preprocessing"],
            {key: value for key, value in index.get("sampling", {}).items() if value != DEFAULTS.get(key)},
            len(index["class_names"]) if "class_names" in index else None,
            source,
            on_hub,
            int(train.get("count", 0)),
            reading,
            panels,
            remarks,
        )


def in_words(model: Tokenizer | Prior) -> str:
    """A model's class, its size, and for a tokenizer its codes."""
    words = f"{type(model).__name__}, {sum(weight.numel() for weight in model.parameters()):,} weights"
    if isinstance(model, Tokenizer):
        return f"{words}, {model.layout.in_words}"
    return words


def measured(origin: Origin, kind: str) -> tuple[str, list[tuple[str, list[Row]]], list[str]]:
    """What is known of the quality of a ``kind`` of model: of its newest evaluation, or of the training's end.

    Returns:
        What the metrics say, in a sentence; titles of sections and their metrics; remarks.
    """
    known = origin.images_fingerprint if kind == "prior" else origin.fingerprints[kind]
    found = [
        path
        for path in origin.run.evaluations.glob("*/evaluation.json")
        if read_yaml(path.with_name(SETTINGS)).get(kind) == known
    ]
    if found:
        evaluation = Evaluation.read(max(found, key=lambda path: path.stat().st_mtime))
        if kind == "prior":
            return evaluation.reading, evaluation.panels, evaluation.remarks
        shown = [panel for panel in evaluation.panels if panel[0] in TOKENIZERS]
        return "Metrics on held-out images.", shown, []
    panels = []
    for part, title in AT_THE_END[: 2 if kind == "prior" else 1]:
        path = origin.run.path / part / "metrics.json"
        if path.exists():
            panels.append((title, rows(read_json(path))))
    return "Metrics on held-out images, at the end of the training.", panels, []


def header(card: Card) -> str:
    """The hub's header, YAML: licence, library, task, tags, data set and metrics."""
    plain: dict[str, Any] = {} if card.author.licence is None else {"license": card.author.licence}
    plain |= {"library_name": LIBRARY, "pipeline_tag": TASK} if card.part == "all" else {"library_name": LIBRARY}
    plain["tags"] = ["vq-vae", "image-generation", "discrete-latents", "pytorch"]
    if card.on_hub:
        plain["datasets"] = [card.source]
    metrics = [(panel, metric) for panel, shown in card.panels if panel not in NOT_LISTED for metric in shown]
    if metrics:
        data = {"type": card.source if card.on_hub else "image", "name": card.source or "images of the author"}
        results = [
            {"type": metric.name, "name": f"{panel}: {metric.name}", "value": metric.value} for panel, metric in metrics
        ]
        task = {"type": TASK, "name": "Image generation"}
        plain["model-index"] = [{"name": LIBRARY, "results": [{"task": task, "dataset": data, "metrics": results}]}]
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def write_card(path: Path, card: Card) -> None:
    """Write a model card."""
    template = templates("pipelines.publishing", autoescape=False).get_template("card.md")
    body = template.render(card=card, intended=INTENDED[card.part], **words(card))
    with replacing(path) as temporary:
        temporary.write_text(f"---\n{header(card)}---\n\n{body}", encoding="utf-8")


def words(card: Card) -> dict[str, Any]:
    """What the template says of a card in words."""
    height, width, channels = card.size
    size, plural = f"{height}×{width}", "channel" if channels == 1 else "channels"
    name = card.author.name or "NAME"
    kinds = {
        "all": ("A generator of images", "A VQ-VAE turns them into codes and back, a prior draws new codes."),
        "tokenizer": ("A tokenizer of images", "It turns them into codes and back. There is no prior in this folder."),
        "prior": ("A prior over codes of images", "It draws codes, which its tokenizer decodes."),
    }
    title, what = kinds[card.part]
    facts = [("Images", f"{size} pixels, {channels} {plural}"), ("Tokenizer", card.tokenizer)]
    facts += [("Prior", card.prior)] if card.prior else []
    facts += [(f"Fingerprint of the {kind}", f"`{value}`") for kind, value in card.fingerprints.items()]
    called = f"`{card.source}`" if card.source else "the author's own"
    data = f"Trained on {card.count:,} images of {called}." if card.count else f"The training images are {called}."
    return {
        "title": title,
        "summary": f"Images of {size} pixels and {channels} {plural}. {what}",
        "size": size,
        "facts": facts,
        "data": data,
        "python": PYTHON[card.part].replace("NAME", name, 1),
        "command": COMMAND[card.part].replace("NAME", f"{PREFIX}{name}" if card.author.name else name),
    }


PYTHON = {
    "all": "from pipelines import Generator\n\n"
    'generator = Generator.from_pretrained("NAME")\ngenerator.sample(16, seed=0).save("grid.png")',
    "tokenizer": "from pipelines import tokenizer_from_pretrained\n\n"
    'tokenizer = tokenizer_from_pretrained("NAME")\n'
    "codes = tokenizer.encode(images)  # [B, T] of [B, C, H, W] in [-1, 1]",
    "prior": "from pipelines import Generator\n\n"
    'generator = Generator.from_pretrained("NAME", tokenizer="NAME OF ITS TOKENIZER")\n'
    'generator.sample(16, seed=0).save("grid.png")',
}
"""How a part is loaded from Python."""

COMMAND = {
    "all": "python -m pipelines.sample model=NAME n=64 seed=0",
    "tokenizer": "python -m pipelines.run tokenizer=NAME output=runs/mine",
    "prior": "",
}
"""And by a command."""
