"""Makes a plan's choices one after another, each in view of those before it and of the times of steps here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pipelines.budget import rules
from pipelines.budget.rules import Choice, Facts
from pipelines.budget.timing import prior_step, seconds_per_step, tokenizer_step
from pipelines.config.compose import settings_from
from pipelines.config.instantiate import build
from pipelines.config.overrides import key_of, override
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.distributed.hardware import Hardware
from pipelines.training.images import RunImages
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.data.duplicates import first_twins, spread_thumbnails
from stage1_vqvae.data.survey import Survey, survey

MODELS = ("data", "codes", "stage1", "stage2", "sampling")
"""What a recipe settles: with ``experiment=`` only the lengths of the trainings are chosen."""

SOURCES = ("data", "hardware")
"""Groups whose options say where images come from and on what is computed, and leave the rest open."""

DATA = ("augmentation", "image_size", "channels")
"""Keys of ``data`` that may be chosen."""

COMPARED, COUNTED = 5000, 64
"""Training images that are compared with each other, and whose colours are counted, at most."""


class Chooser:
    """Chooses what a command with a budget leaves open.

    Args:
        settings: Of the command.
        asked: The user's overrides.
        seconds: Of the budget.

    Attributes:
        choices: Those made so far.
        images: Those of the size that was chosen, once all choices are made.
    """

    images: RunImages

    def __init__(self, settings: Settings, asked: Sequence[str], seconds: float) -> None:
        self.given, self.asked = settings, asked
        self.budget, self.first, self.second = seconds, rules.STAGE1 * seconds, rules.STAGE2 * seconds
        self.choices: list[Choice] = []

    def all(self) -> list[Choice]:
        """All choices, in the order in which they are made."""
        sizes = self._data()
        self._hardware()
        self._image_size(sizes)
        self.images = RunImages(self._settings())
        self._take(rules.data_choices(facts_of(self.images.opened)))
        first, second = self._models()
        self._take(rules.lengths("stage1", self.first, first))
        self._take(rules.lengths("stage2", self.second, second))
        return self.choices

    def _data(self) -> list[Choice]:
        """Choose the channels and the smallest of the sizes; returns these, the smallest first."""
        if not unset([Choice(f"data.{key}", None, "") for key in ("image_size", "channels")], self.asked):
            return []
        found = originals(self.given)
        if found is None or not found.read:
            return []
        sizes = unset(rules.image_sizes(found.sizes), self.asked)
        self._take([*rules.channel_choices(found.modes), *sizes[:1]])
        return sizes

    def _hardware(self) -> None:
        """Choose precision, memory format and compilation by small models of both stages."""
        small = [*self._grids()[-1], *rules.tokenizers()[0], *rules.priors()[0]]
        lower = build(self.given["hardware"], "hardware").training_precision.startswith("bf16")
        self._fastest(rules.hardware_variants(lower), small)
        if self.budget >= rules.COMPILED_FROM and not self.given["stage1"].get("training"):
            self._fastest([{"hardware.compile": True}], small)

    def _fastest(self, variants: Sequence[Mapping[str, Any]], models: Sequence[Choice]) -> None:
        """Take the variant of the hardware's settings with which steps take least time, if any is faster."""
        plain, shares = None, []
        for variant in variants:
            chosen = [Choice(key, value, "") for key, value in variant.items()]
            if len(unset(chosen, self.asked)) < len(chosen):
                continue
            plain = plain or self._steps(models)
            try:
                first, second = self._steps([*models, *chosen])
            except RuntimeError:  # it is not to be had here
                continue
            shares.append((self.first * first / plain[0] + self.second * second / plain[1], chosen))
        if shares:
            share, chosen = min(shares, key=lambda one: one[0])
            self._take(rules.hardware_choices(chosen, share / (self.first + self.second)))

    def _image_size(self, sizes: Sequence[Choice]) -> None:
        """Choose the largest of the sizes, of which the smallest is chosen so far, that gets enough steps."""
        for size in sizes[1:]:
            fine = self._grids(size)[0]
            if self.first / self._tokenizer_step(size, *fine, *rules.tokenizers()[0]) < rules.STEPS1:
                return
            self.choices = [size if one.key == size.key else one for one in self.choices]

    def _models(self) -> tuple[float, float]:
        """Choose the grid of codes and the models; returns their seconds a step."""
        grids, tokenizers, priors = self._grids(), rules.tokenizers(), rules.priors()
        for grid in grids:
            first, second = self._steps([*grid, *tokenizers[0], *priors[0]])
            if self.first / first >= rules.STEPS1 and self.second / second >= rules.STEPS2:
                break
        self._take(grid)
        wider = self._tokenizer_step(*tokenizers[1])
        larger = self._prior_step(*tokenizers[0], *priors[1])
        chosen, prior = tokenizers[0], priors[0]
        if self.first / wider >= rules.STEPS1:
            first, chosen = wider, tokenizers[1]
        if self.second / larger >= rules.STEPS2:
            second, prior = larger, priors[1]
        self._take([*chosen, *prior])
        return first, second

    def _grids(self, size: Choice | None = None) -> list[list[Choice]]:
        height, width = size.value if size else self._settings()["data"]["image_size"]
        return rules.grids(height, width)

    def _take(self, choices: Iterable[Choice]) -> None:
        self.choices += unset(choices, self.asked)

    def _settings(self, more: Iterable[Choice] = ()) -> Settings:
        chosen = {one.key: one.value for one in (*self.choices, *unset(more, self.asked))}
        return applied(self.given, self.asked, chosen)

    def _steps(self, more: Sequence[Choice]) -> tuple[float, float]:
        settings = self._settings(more)
        return seconds_of_step(tokenizer_step, settings), seconds_of_step(prior_step, settings)

    def _tokenizer_step(self, *more: Choice) -> float:
        return seconds_of_step(tokenizer_step, self._settings(more))

    def _prior_step(self, *more: Choice) -> float:
        return seconds_of_step(prior_step, self._settings(more))


def seconds_of_step(step: Callable[[Settings, Hardware], Callable[[], None]], settings: Settings) -> float:
    """How long a stage's step takes, on the slowest process."""
    hardware = build(settings["hardware"], "hardware")
    taken = seconds_per_step(step(settings, hardware), hardware.device)
    if collectives.ranks() == 1:
        return taken
    return float(collectives.max_over_ranks(torch.tensor([taken], device=hardware.device)))


def applied(settings: Settings, asked: Sequence[str], choices: Mapping[str, Any]) -> Settings:
    """Settings of a command that has these overrides, with choices in them."""
    new = settings_from("config", [*asked, *(override(key, value) for key, value in choices.items())])
    data = {key: new["data"][key] for key in DATA if key in new["data"]}
    hardware = {key.removeprefix("hardware."): value for key, value in choices.items() if key.startswith("hardware.")}
    return {
        **settings,
        **{key: new[key] for key in ("stage1", "stage2", "codes", "sampling")},
        "data": {**settings["data"], **data},
        "hardware": {**settings["hardware"], **hardware},
    }


def unset(choices: Iterable[Choice], asked: Sequence[str]) -> list[Choice]:
    """The choices that the user has not made: of neither their keys nor the groups that these are a part of.

    Whoever picks a model, or a recipe, picks no time: the lengths of the trainings are chosen all the same.
    """
    keys = {place_of(key_of(word)) for word in asked}
    groups = set(MODELS) if "experiment" in keys else keys - set(SOURCES)
    return [
        one
        for one in choices
        if place_of(one.key) not in keys
        and not any(f"{place_of(one.key)}.".startswith(f"{group}.") for group in groups if not is_length(one.key))
    ]


def place_of(key: str) -> str:
    """Where a key's value lies: ``stage2.optimizer`` of ``stage2/optimizer@somewhere``."""
    return key.partition("@")[0].replace("/", ".")


def is_length(key: str) -> bool:
    """Whether a key says how long a stage trains."""
    return ".trainer." in key or key.endswith(".warmup_steps")


def originals(settings: Settings) -> Survey | None:
    """Sizes and modes of the images as they are, which the first process reads; None if they cannot be read.

    What is wrong with them is said when they are opened.
    """
    wait, found = collectives.LongWait(), None
    if collectives.rank() == 0:
        with suppress(ValueError, OSError):
            source = build(settings["data"], "data", settings["trust"]).find()
            found = survey(source.read(), source.name)
    wait.until_all_arrive()
    return collectives.from_first(found)


def facts_of(images: ImageData) -> Facts:
    """What is known of opened images."""
    count = len(images.train)
    rows, small = spread_thumbnails(images.train, COMPARED)
    twins = int((first_twins(small) >= 0).sum())
    some = images.train.__getitems__(rows[:: -(-len(rows) // COUNTED)].tolist())["images"]
    height, width = images.image_size
    return Facts(
        images=count,
        distinct=round(count * (1 - twins / len(rows))),
        height=height,
        width=width,
        classes=len(images.class_names),
        colours=int(median(map(colours_of, some))),
    )


def colours_of(image: Tensor) -> int:
    """Number of different colours of ``image [H, W, C]``."""
    return len(image.flatten(0, 1).unique(dim=0))
