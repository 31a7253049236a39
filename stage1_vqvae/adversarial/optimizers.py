"""Two optimisers in one: the tokenizer's and the discriminator's groups of parameters, each with its own settings.

Adam looks at each number by itself, so groups of one optimiser take the steps that two optimisers would. One optimiser
counts a step once, and a step that is skipped is skipped for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Factor = Callable[[int], float]


def joined(first: Any, second: Any, start: int) -> dict[str, Any]:
    """One optimiser of the groups of two, and one schedule of both schedules, as Lightning takes them.

    Args:
        first: An optimiser, or it with its schedule, as a training's ``optimization`` gives it.
        second: The same for other parameters, with settings of its own and an optimiser of the same class.
        start: Steps after which the second schedule begins.

    Raises:
        ValueError: If the two are optimisers of different classes.
    """
    optimizer, factors = parts(first)
    other, later = parts(second)
    if type(optimizer) is not type(other):
        raise ValueError(
            f"tokenizer and discriminator share one kind of optimiser, got {type(optimizer).__name__} and "
            f"{type(other).__name__}"
        )
    for group in other.param_groups:
        optimizer.add_param_group(dict(group))
    schedule = LambdaLR(optimizer, [*factors, *(partial(after, factor, start) for factor in later)])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parts(found: Any) -> tuple[Optimizer, list[Factor]]:
    """An optimiser, and for each of its groups the factor of its learning rate by the step."""
    if isinstance(found, Optimizer):
        return found, [constant] * len(found.param_groups)
    return found["optimizer"], found["lr_scheduler"]["scheduler"].lr_lambdas


def after(factor: Factor, start: int, step: int) -> float:
    """The factor of a schedule that begins at ``start``."""
    return factor(max(step - start, 0))


def constant(step: int) -> float:
    """A learning rate that stays."""
    return 1.0
