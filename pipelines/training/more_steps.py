"""A training that is given more steps: it goes on from its checkpoint, and what it had made is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.artifacts.links import link_tree
from pipelines.artifacts.run_folder import RunFolder, dependents
from pipelines.artifacts.stale import MADE_BY_A_PRIOR, free_name
from pipelines.cli.console import console
from pipelines.config.claims import Claim
from pipelines.distributed import collectives
from pipelines.training.optimization import Optimization


def go_further(run: RunFolder, claim: Claim, optimization: Any) -> None:
    """Keep what a shorter training made, and say what happens; nothing where no more steps are asked for.

    Args:
        run: The run.
        claim: Of the stage's product.
        optimization: The stage's.
    """
    fewer = claim.of_fewer_steps()
    collectives.barrier()
    if fewer is None or claim.stage is None:
        return
    before, now = (settings[claim.stage]["trainer"]["max_steps"] for settings in (fewer, claim.settings))
    console.print(f"{claim.what}: goes on from {before:,} steps to {now:,}; {_rate(optimization, before, now)}")
    product = run.tokenizer if claim.stage == "stage1" else run.prior
    if collectives.rank() == 0 and product.exists():
        aside = free_name(run.path / f"{product.name}-of-{before}-steps")
        _set_aside(run, product, aside)
        console.print(
            f"[yellow]![/] what the {claim.what} of {before:,} steps made is kept as a run of its own: {aside}"
        )
    collectives.barrier()


def _rate(optimization: Any, before: int, now: int) -> str:
    """What a longer schedule does to the learning rate, in words."""
    if not isinstance(optimization, Optimization):
        return "its optimiser is told the new number"
    ended, begins = (optimization.learning_rate * optimization.factor(before, steps) for steps in (before, now))
    if ended == begins:
        return f"the learning rate stays {begins:.3g}"
    return f"the schedule is that of {now:,} steps: the learning rate, {ended:.3g} at the end, is {begins:.3g} again"


def _set_aside(run: RunFolder, product: Path, aside: Path) -> None:
    """Move a product and what was made with it to a run of its own."""
    made_with: Sequence[Path] = [run.path / name for name in MADE_BY_A_PRIOR]
    if product == run.tokenizer:
        made_with = [*dependents(run, "tokenizer"), *made_with]
    else:
        for needed in (run.tokenizer, run.path / "codes"):
            link_tree(needed, aside / needed.name)
    for folder in (*made_with, product):  # the product last: until then the same command sets the rest aside
        if folder.exists():
            target = aside / folder.relative_to(run.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
