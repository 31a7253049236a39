"""About how long a run takes after its first stage, for the progress of that stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.budget.timing import prior_step, seconds_per_step
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.distributed.hardware import Hardware
from stage1_vqvae.progress import Progress

FEWEST = 200
"""Steps of stage two without which nothing is timed: it is over before anybody asks."""


@contextmanager
def before_stage2(settings: Settings) -> Iterator[None]:
    """Show in the progress of what is done in the block about how long stage two takes after it.

    Steps of stage two are timed on this machine first, in a few seconds; nothing is where stage one is finished.
    """
    run = RunFolder(Path(settings["output"]))
    if finished(run.tokenizer) or collectives.rank() != 0:
        yield
        return
    Progress.afterwards = ("stage 2", seconds_of_stage2(settings))
    try:
        yield
    finally:
        Progress.afterwards = ("", 0.0)


def seconds_of_stage2(settings: Settings) -> float:
    """About how long the prior's steps take; 0 where there are few, or one device does not hold the prior."""
    stage, hardware = settings["stage2"], build(settings["hardware"], "hardware")
    assert isinstance(hardware, Hardware)
    if stage["trainer"]["max_steps"] < FEWEST or hardware.sharded:
        return 0.0
    share = {**stage, "batch_size": max(1, stage["batch_size"] // collectives.ranks())}
    try:
        step = seconds_per_step(prior_step({**settings, "stage2": share}, hardware), hardware.device)
    except RuntimeError:  # it does not fit, say: the training finds that out, no estimate does
        return 0.0
    return step * stage["trainer"]["max_steps"] * stage["trainer"]["accumulate_grad_batches"]
