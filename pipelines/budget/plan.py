"""A run's plan for the time that it is given: made once, printed, and kept with the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.budget import rules
from pipelines.budget.choosing import Chooser, applied, seconds_of_step, unset
from pipelines.budget.duration import seconds_of, spoken
from pipelines.budget.rules import Choice
from pipelines.budget.timing import prior_step
from pipelines.cli.console import console
from pipelines.config.overrides import key_of
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.training.images import RunImages
from stage1_vqvae.files import read_yaml, write_yaml

BUDGET = "budget.yaml"
"""Of a run's folder: its plan."""

STEPS = ("stage1.trainer.max_steps", "stage2.trainer.max_steps")
"""Keys that may be raised once a run has begun."""


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

    def under(self, asked: tuple[str, ...]) -> Plan | None:
        """The plan for a user who now may also say how long stages train; None if anything else is asked for."""
        own, now = ({key_of(word): word for word in words} for words in (self.asked, asked))
        if any(own.get(key) != now.get(key) and not (key in STEPS and key in now) for key in {**own, **now}):
            return None
        return replace(self, asked=asked, choices={key: one for key, one in self.choices.items() if key not in now})

    def instead_of(self, budget: Any, longer: Plan | None) -> str:
        """What the plan is for, and what to do instead of asking for another.

        Args:
            budget: Asked for.
            longer: The plan where nothing else than the budget is another, see :meth:`under`.
        """
        times = seconds_of(str(budget)) / seconds_of(self.budget)
        more = (
            [f"{key}={int(value * times)}" for key, value in longer.choices.items() if key in STEPS] if longer else []
        )
        if more and times > 1:
            more.insert(0, f"budget={self.budget}")
            return (
                f"budget={self.budget}: give {' '.join(more)} to train as much longer, "
                f"or budget={budget} with another output="
            )
        return f"{' '.join((*self.asked, f'budget={self.budget}'))}: give these settings, or another output="

    def apply(self, settings: Settings) -> Settings:
        """Settings with the choices in them."""
        return applied(settings, self.asked, self.choices)


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
        if plan := self._kept():
            settings = plan.apply(self.settings)
            return settings, RunImages(settings)
        plan, images = self._made()
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
            choices = unset(rules.lengths("stage2", left, seconds_of_step(prior_step, settings)), self.asked)
            chosen = {**plan.choices, **{one.key: one.value for one in choices}}
            replace(plan, choices=chosen, prior_measured=True).write(self.path)
            collectives.barrier()
            plan = Plan.read(self.path)  # the first process's: the others' clocks tell other times
        longer = plan.under(self.asked)
        assert longer is not None
        return longer.apply(settings)

    def _kept(self) -> Plan | None:
        """The plan that the folder has; None where there is none, or one of which nothing was made yet."""
        if self.is_new:
            return None
        plan, run = Plan.read(self.path), RunFolder(self.path.parent)
        longer = plan.under(self.asked)
        if longer and plan.budget == self.settings["budget"]:
            return longer
        if finished(run.tokenizer) or run.checkpoints("stage1").exists():
            raise ValueError(f"{run.path} was planned for {plan.instead_of(self.settings['budget'], longer)}")
        self.is_new = True
        return None

    def _made(self) -> tuple[Plan, RunImages]:
        """A new plan, which is printed and kept, and the images that it was made for."""
        assert self.seconds is not None
        chooser = Chooser(self.settings, self.asked, self.seconds)
        choices = chooser.all()
        plan = Plan(str(self.settings["budget"]), self.asked, {one.key: one.value for one in choices})
        plan.write(self.path)
        show(choices, self.seconds)
        collectives.barrier()
        return plan, chooser.images


def show(choices: Sequence[Choice], seconds: float) -> None:
    """Print what was chosen, with the reasons, a key a line."""
    console.print(f"plan for {spoken(seconds)}; what you set yourself stays as it is")
    shown = [(one.key, str(one.value), one.reason) for one in choices]
    wide, narrow = (max(len(row[column]) for row in shown) for column in (0, 1))
    for key, value, reason in shown:
        console.print(escape(f"  {key:<{wide}}  {value:<{narrow}}  {reason}"))
