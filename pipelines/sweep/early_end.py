"""Callbacks that end the training of a job of a sweep before its last step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from pipelines.config.instantiate import build, suggestion
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.sweep.pruned import JobPruned
from pipelines.sweep.pruning import Rule
from pipelines.tracking.csv import METRICS, read_metrics
from pipelines.tracking.metrics import DEFAULT, goal, objectives

CONDITION = re.compile(r"(stage[12])\.(\w+) *([<>]) *([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?: +after +(\d+))?")
"""What ``stop_if`` looks like: ``stage1.usage < 0.05 after 500``."""

LOGGED = "validation/"
"""How the names of metrics begin that a validation logs."""


@dataclass(frozen=True)
class Condition:
    """What ``stop_if`` says.

    Attributes:
        stage: The stage that the metric is of.
        metric: Its name.
        above: Whether a training ends whose metric is above the bound, or below it.
        bound: The bound.
        after: Steps before which no training ends.
    """

    stage: str
    metric: str
    above: bool
    bound: float
    after: int

    @classmethod
    def read(cls, text: str) -> Condition:
        """Of the text.

        Raises:
            ValueError: If it cannot be read.
        """
        match = CONDITION.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"stop_if={text}: a metric, < or >, and a number expected, and steps if need be: "
                "'stage1.usage < 0.05 after 500'"
            )
        return cls(match[1], match[2], match[3] == ">", float(match[4]), int(match[5] or 0))

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the bound."""
        return value > self.bound if self.above else value < self.bound


def early_end(settings: Settings, stage: str) -> list[Callback]:
    """Callbacks that may end the training of a stage, by ``stop_if`` and, in a sweep, ``prune``.

    Args:
        settings: Of the command.
        stage: ``stage1``, ``stage2``, or ``stage2.0`` for a part of a prior. A part is not pruned: nats of other grids
            are no measure for it.

    Raises:
        ValueError: If a setting is wrong, or several processes train the job.
    """
    names = objectives(settings.get("objective")) or [DEFAULT[settings.get("command") == "train_stage1"]]
    found: list[Callback] = []
    if settings.get("stop_if") is not None:
        condition = Condition.read(settings["stop_if"])
        found += [StopIf(condition, names[0])] if condition.stage == stage.partition(".")[0] else []
    if settings.get("prune") is not None:
        rule = build(settings["prune"], "prune", settings["trust"])
        if len(names) > 1:
            raise ValueError("prune: it goes by one objective, several are given: give prune=null")
        if settings.get("sweep") and names[0].startswith(f"{stage}."):
            found.append(Prune(rule, names[0], Path(settings["sweep"]["folder"]), Path(settings["output"])))
    if found and collectives.ranks() > 1:
        raise ValueError("prune and stop_if are for jobs of one process: give prune=null stop_if=null")
    return found


class AfterValidation(Callback):
    """Looks at a metric after each validation of a training but the last.

    Args:
        metric: Its name with its stage.
    """

    def __init__(self, metric: str) -> None:
        self.stage, _, self.metric = metric.partition(".")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the metric.

        Raises:
            JobPruned: If the training ends here.
            ValueError: If a validation logs no such metric.
        """
        if trainer.state.fn == TrainerFn.FITTING and trainer.global_step < trainer.max_steps:
            logged = trainer.callback_metrics
            values = {name.removeprefix(LOGGED): float(logged[name]) for name in logged if name.startswith(LOGGED)}
            if self.metric not in values:
                near = suggestion(self.metric, values)
                raise ValueError(f"{self.stage}.{self.metric}: a validation logs no such metric;{near}")
            self.look(trainer.global_step, values, trainer.max_steps)

    def look(self, step: int, values: Mapping[str, float], steps: int) -> None:
        """Raise JobPruned if the training ends at a step, by the validation's metrics, of so many steps in all."""
        raise NotImplementedError


class StopIf(AfterValidation):
    """Ends a training whose metric is beyond a bound.

    Args:
        condition: Which, and the bound.
        objective: The metric that a sweeper gets.
    """

    def __init__(self, condition: Condition, objective: str) -> None:
        super().__init__(f"{condition.stage}.{condition.metric}")
        self.condition = condition
        self.objective = objective

    def look(self, step: int, values: Mapping[str, float], steps: int) -> None:
        """Raise JobPruned if the value is beyond the bound."""
        value = values[self.metric]
        if step >= self.condition.after and self.condition.holds(value):
            stage, _, name = self.objective.partition(".")
            of_objective = values.get(name) if stage == self.stage else None
            raise JobPruned(f"{self.stage}.{self.metric} {value:.4g} at step {step} (stop_if)", of_objective)


class Prune(AfterValidation):
    """Ends a job of a sweep by a rule, which sees what all jobs have logged so far.

    Args:
        rule: The rule.
        objective: The metric, with its stage.
        sweep: Folder of the sweep.
        own: Folder of the run that is trained.
    """

    def __init__(self, rule: Rule, objective: str, sweep: Path, own: Path) -> None:
        super().__init__(objective)
        self.rule, self.sweep, self.own = rule, sweep, own.resolve()
        self.sign = -1 if goal(objective) == "max" else 1
        self.known: dict[Path, tuple[int, dict[int, float]]] = {}  # size of each file when it was read, and its costs

    def look(self, step: int, values: Mapping[str, float], steps: int) -> None:
        """Raise JobPruned if the rule says so."""
        value = values[self.metric]
        # A training that was killed goes on from a checkpoint: what it logged beyond that it logs again.
        before = {at: cost for at, cost in self.costs(self.own).items() if at < step}
        if self.rule.ends(before | {step: self.sign * value}, self.others(), steps):
            raise JobPruned(f"{self.stage}.{self.metric} {value:.4g} at step {step}, others are better", value)

    def others(self) -> list[dict[int, float]]:
        """Costs of the other trainings; jobs that share one, and its metrics, count once."""
        found = []
        for path in sorted(self.sweep.glob(f"*/{METRICS}")) + sorted(self.sweep.glob(f"shared/*/{METRICS}")):
            folder = path.parents[len(METRICS.parts) - 1]
            if folder.resolve() != self.own and (costs := self.costs(folder)) and costs not in found:
                found.append(costs)
        return found

    def costs(self, folder: Path) -> dict[int, float]:
        """Costs that a run has logged, by the number of steps before; Lightning counts steps from 0."""
        path = folder / METRICS
        size = path.stat().st_size if path.exists() else 0
        if self.known.get(path, (-1, {}))[0] != size:
            logged = read_metrics(folder).get(self.stage, {}).get(LOGGED + self.metric, {})
            finite = {step + 1: self.sign * value for step, value in logged.items() if math.isfinite(value)}
            self.known[path] = (size, finite)
        return self.known[path][1]
