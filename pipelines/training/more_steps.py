"""A training that is given more steps: it goes on from its checkpoint, and what it had made is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.artifacts.links import link_tree
from pipelines.artifacts.run_folder import RunFolder, dependents, finished
from pipelines.artifacts.stale import MADE_BY_A_PRIOR, free_name
from pipelines.cli.console import console
from pipelines.config.claims import Claim
from pipelines.distributed import collectives
from pipelines.training.checkpoint_files import steps_in
from pipelines.training.optimization import Optimization


def go_further(run: RunFolder, claim: Claim, optimization: Any) -> None:
    """Keep what a shorter training made, and say what happens; nothing where no more steps are asked for.

    Args:
        run: The run.
        claim: Of the stage's product.
        optimization: The stage's.
    """
    fewer, made = claim.of_fewer_steps(), finished(claim.path.parent)
    collectives.barrier()
    if fewer is None:
        return
    assert claim.stage
    assert claim.checkpoints
    before, now = (settings[claim.stage]["trainer"]["max_steps"] for settings in (fewer, claim.settings))
    reached = max(steps_in(claim.checkpoints))
    rate = _rate(optimization, reached, before, now)
    console.print(f"{claim.what}: goes on from step {reached:,} to {now:,}; {rate}")
    if collectives.rank() == 0 and made:
        aside = _set_aside(run, claim, before)
        console.print(
            f"[yellow]![/] what the {claim.what} of {before:,} steps made is kept as a run of its own: {aside}"
        )
    collectives.barrier()


def _rate(optimization: Any, step: int, before: int, now: int) -> str:
    """What a longer schedule does to the learning rate at a step, in words."""
    if not isinstance(optimization, Optimization):
        return "its optimiser is told the new number"
    was, becomes = (optimization.learning_rate * optimization.factor(step, steps) for steps in (before, now))
    if was == becomes:
        return f"the learning rate stays {becomes:.3g}"
    return f"the schedule is that of {now:,} steps: the learning rate, {was:.3g} there, is {becomes:.3g} now"


def _set_aside(run: RunFolder, claim: Claim, before: int) -> Path:
    """Move a product and what was made with it to a run of its own; a set-aside that was killed is completed."""
    product = claim.path.parent
    aside = free_name(run.path / f"{product.name}-of-{before}-steps", product.name)
    made_with: Sequence[Path] = [run.path / name for name in MADE_BY_A_PRIOR]
    if product == run.tokenizer:
        made_with = [*dependents(run, "tokenizer"), *made_with]
    else:
        for needed in (run.tokenizer, run.path / "codes"):
            if not (aside / needed.name).exists():
                link_tree(needed, aside / needed.name)
    for folder in (*made_with, product):  # the product last: until then the same command sets the rest aside
        if folder.exists():
            target = free_name(aside / folder.relative_to(run.path))
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
    return aside
