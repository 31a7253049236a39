"""Rules by which jobs of a sweep end before their last step, since others are better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

Costs = Mapping[int, float]
"""The objective of a job by step, as its validations found it, with the sign by which lower is better."""


class Rule(Protocol):
    """Says which jobs end early."""

    def ends(self, own: Costs, others: Sequence[Costs], steps: int) -> bool:
        """Whether a job ends after its newest validation.

        Args:
            own: Of the job, with at least one value.
            others: Of other jobs of the sweep, which may have begun later or ended earlier.
            steps: Of the job's whole training.
        """
        ...


@dataclass(frozen=True)
class SuccessiveHalving:
    """Asynchronous successive halving (arXiv 1810.05934): a job passes a rung if it is among the best that reached it.

    Rungs are at ``first``, ``first * reduction``, ``first * reduction^2``, … of the training; a job reaches one with
    its first validation from there on. It goes on if it is among the best ``1 / reduction`` of the jobs that have
    reached the rung so far, itself among them, and always if it is the best.

    Attributes:
        first: Share of the training until the first rung.
        reduction: One of so many jobs goes on.

    Raises:
        ValueError: If a number is out of range.
    """

    first: float = 0.1
    reduction: int = 3

    def __post_init__(self) -> None:
        _check_share(self.first)
        if self.reduction < 2:
            raise ValueError(f"reduction is at least 2, got {self.reduction}")

    def ends(self, own: Costs, others: Sequence[Costs], steps: int) -> bool:
        """Whether the newest validation is the first from a rung on, and the job is not among the best there."""
        newest = max(own)
        before = max((step for step in own if step < newest), default=0)
        rung = self.first * steps
        while rung <= newest:
            if before < rung:
                reached = [value for costs in others if (value := _reached(costs, rung)) is not None]
                better = sum(value < own[newest] for value in reached)
                if better >= math.ceil((len(reached) + 1) / self.reduction):
                    return True
            rung *= self.reduction
        return False


@dataclass(frozen=True)
class Median:
    """The median rule of Vizier (doi 10.1145/3097983.3098043): a job ends if it is worse than the median of others.

    Its best value so far is compared with what the others had at the step of its newest.

    Attributes:
        first: Share of the training before which no job ends.
        least: Other jobs that there are to be at the step.

    Raises:
        ValueError: If a number is out of range.
    """

    first: float = 0.1
    least: int = 3

    def __post_init__(self) -> None:
        _check_share(self.first)
        if self.least < 1:
            raise ValueError(f"least is at least 1, got {self.least}")

    def ends(self, own: Costs, others: Sequence[Costs], steps: int) -> bool:
        """Whether the best value so far is worse than the median of the others."""
        newest = max(own)
        values = [value for costs in others if (value := _reached(costs, newest)) is not None]
        return newest >= self.first * steps and len(values) >= self.least and min(own.values()) > median(values)


def _check_share(first: float) -> None:
    if not 0 < first < 1:
        raise ValueError(f"first is a share of the training, in (0, 1), got {first}")


def _reached(costs: Costs, step: float) -> float | None:
    """The value of the first validation from a step on; None where there is none."""
    later = [one for one in costs if one >= step]
    return costs[min(later)] if later else None
