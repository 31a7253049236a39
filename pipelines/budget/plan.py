"""A run's plan for the time that it is given: made once, printed, and kept with the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.budget import rules
from pipelines.budget.duration import seconds_of, spoken
from pipelines.budget.rules import Choice, Facts
from pipelines.budget.timing import prior_step, seconds_per_step, tokenizer_step
from pipelines.cli.console import console
from pipelines.config.compose import settings_from
from pipelines.config.instantiate import build
from pipelines.config.overrides import key_of, override
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.distributed.hardware import Hardware
from pipelines.training.images import RunImages
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_yaml, write_yaml

BUDGET = "budget.yaml"
"""Of a run's folder: its plan."""

MODELS = ("data", "codes", "stage1", "stage2", "sampling")
"""What a recipe settles: with ``experiment=`` only the lengths of the trainings are chosen."""


@dataclass(frozen=True)
class Plan:
    """What was chosen for a run.

    Attributes:
        budget: The time, as the user wrote it.
        asked: The user's overrides, but for ``output``.
        choices: Keys and values.
        prior_measured: Whether the prior's steps are those that the time left after stage one allows.
    """

    budget: str
    asked: tuple[str, ...]
    choices: dict[str, Any]
    prior_measured: bool = False

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan of a file."""
        kept = read_yaml(path)
        return cls(**{**kept, "asked": tuple(kept["asked"])})

    def write(self, path: Path) -> None:
        """Keep the plan, as plain settings."""
        if collectives.rank() == 0:
            write_yaml(path, {**asdict(self), "asked": list(self.asked)})

    def apply(self, settings: Settings) -> Settings:
        """Settings with the choices in them."""
        chosen = [override(key, value) for key, value in self.choices.items()]
        new = settings_from("config", [*self.asked, *chosen])
        data = {**settings["data"], "augmentation": new["data"]["augmentation"]}
        return {**settings, **{key: new[key] for key in ("stage1", "stage2", "codes", "sampling")}, "data": data}


class Planner:
    """Plans the run of a command with ``budget``; without one the settings stay as they are.

    Args:
        settings: Of the command.
    """

    def __init__(self, settings: Settings) -> None:
        self.start = time.monotonic()
        self.settings = settings
        self.path = RunFolder(Path(settings["output"])).path / BUDGET
        self.seconds = None if settings["budget"] is None else seconds_of(str(settings["budget"]))
        words = settings.get("overrides") or ()
        self.asked = tuple(word for word in words if key_of(word) not in ("output", "budget"))
        self.is_new = not self.path.exists()

    def whole(self, images: RunImages) -> tuple[Settings, RunImages]:
        """Settings of the whole run, and its images under them.

        Raises:
            ValueError: If the run in the folder was planned for other settings.
        """
        if self.seconds is None:
            return self.settings, images
        plan = self._kept() or self._made(images.opened)
        settings = plan.apply(self.settings)
        return settings, images.under(settings)

    def prior(self, settings: Settings) -> Settings:
        """The settings once codes are extracted: the prior gets the time that is left."""
        if self.seconds is None or finished(RunFolder(self.path.parent).prior):
            return settings
        plan = Plan.read(self.path)
        if not plan.prior_measured:
            # A run that was begun by an earlier command keeps the share that was planned.
            spent = time.monotonic() - self.start if self.is_new else (1 - rules.STAGE2) * self.seconds
            left = max(self.seconds - spent - rules.AFTER * self.seconds, 0.1 * rules.STAGE2 * self.seconds)
            classes = 10  # their number hardly changes a step's time
            step = self._seconds(prior_step(settings, classes, self._hardware))
            choices = unset(rules.lengths("stage2", left, step), self.asked)
            chosen = {**plan.choices, **{one.key: one.value for one in choices}}
            replace(plan, choices=chosen, prior_measured=True).write(self.path)
            collectives.barrier()
            plan = Plan.read(self.path)  # the first process's: the others' clocks tell other times
        return plan.apply(settings)

    @property
    def _hardware(self) -> Hardware:
        return build(self.settings["hardware"], "hardware")

    def _kept(self) -> Plan | None:
        """The plan that the folder has; None where there is none, or one of which nothing was made yet."""
        if self.is_new:
            return None
        plan, run = Plan.read(self.path), RunFolder(self.path.parent)
        if (plan.budget, plan.asked) == (self.settings["budget"], self.asked):
            return plan
        if finished(run.tokenizer) or run.checkpoints("stage1").exists():
            words = " ".join((*plan.asked, f"budget={plan.budget}"))
            raise ValueError(f"{run.path} was planned for {words}: give these settings, or another output=")
        self.is_new = True
        return None

    def _made(self, images: ImageData) -> Plan:
        """A new plan, which is printed and kept."""
        assert self.seconds is not None
        height, width = images.image_size
        facts = Facts(len(images.train), height, width, len(images.class_names))
        chosen = unset(rules.data_choices(facts), self.asked)
        for candidate in rules.model_choices(facts):
            tried = chosen + unset(candidate, self.asked)
            plan = Plan(str(self.settings["budget"]), self.asked, {one.key: one.value for one in tried})
            settings = plan.apply(self.settings)
            steps = [self._seconds(step) for step in self._steps(settings, images, facts)]
            first, second = rules.STAGE1 * self.seconds, rules.STAGE2 * self.seconds
            if first / steps[0] >= rules.STEPS1 and second / steps[1] >= rules.STEPS2:
                break
        for stage, seconds, step in zip(("stage1", "stage2"), (first, second), steps, strict=True):
            tried += unset(rules.lengths(stage, seconds, step), self.asked)
        plan = replace(plan, choices={one.key: one.value for one in tried})
        plan.write(self.path)
        show(tried, self.seconds)
        collectives.barrier()
        return plan

    def _steps(self, settings: Settings, images: ImageData, facts: Facts) -> list[Callable[[], None]]:
        hardware = self._hardware
        return [tokenizer_step(settings, images, hardware), prior_step(settings, facts.classes, hardware)]

    def _seconds(self, step: Callable[[], None]) -> float:
        """Of a step, on the slowest process."""
        seconds = seconds_per_step(step, self._hardware.device)
        if collectives.ranks() == 1:
            return seconds
        return float(collectives.max_over_ranks(torch.tensor([seconds], device=self._hardware.device)))


def unset(choices: Iterable[Choice], asked: Sequence[str]) -> list[Choice]:
    """The choices that the user has not made: of neither their keys nor the groups that these are a part of.

    Whoever picks a model, or a recipe, picks no time: the lengths of the trainings are chosen all the same.
    """
    keys = {key_of(word).partition("@")[0].replace("/", ".") for word in asked}
    groups = set(MODELS) if "experiment" in keys else keys
    return [
        one
        for one in choices
        if one.key not in keys
        and not any(one.key == group or one.key.startswith(f"{group}.") for group in groups if not is_length(one.key))
    ]


def is_length(key: str) -> bool:
    """Whether a key says how long a stage trains."""
    return ".trainer." in key or key.endswith(".warmup_steps")


def show(choices: Sequence[Choice], seconds: float) -> None:
    """Print what was chosen, with the reasons, a key a line."""
    console.print(f"plan for {spoken(seconds)}; what you set yourself stays as it is")
    shown = [(one.key, str(one.value), one.reason) for one in choices]
    wide, narrow = (max(len(row[column]) for row in shown) for column in (0, 1))
    for key, value, reason in shown:
        console.print(escape(f"  {key:<{wide}}  {value:<{narrow}}  {reason}"))
