"""Faults of one of two processes that train together (gloo, on this machine)."""

from __future__ import annotations

import functools
import random
import signal
import tempfile
from pathlib import Path

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from pipelines.distributed import launch
from pipelines.training.checkpoint_files import newest
from stage1_vqvae.files import TEMPORARY
from tests.faults.faults import equal, fault
from tests.faults.forks import finish, fork, wait
from tests.faults.training import state
from tests.support import two_ranks

launch.spawn = functools.partial(start_processes, start_method="fork")
INTERRUPTED = 7


def run(stage: str, folder: Path, ranks: int = 2, callbacks: tuple[object, ...] = ()) -> None:
    """A whole training on some processes; ends with INTERRUPTED where one of them was."""
    try:
        two_ranks.train(stage, folder, ranks, callbacks)
    except (ProcessExitedException, ProcessRaisedException):
        raise SystemExit(INTERRUPTED) from None


@functools.cache
def whole(stage: str) -> str:
    """State that an uninterrupted training leaves."""
    with tempfile.TemporaryDirectory() as folder:
        finish(run, stage, Path(folder))
        return state(Path(folder))


def signalled(number: int, folder: Path, dice: random.Random) -> int:
    """Signal one rank in training or validation, go on, compare; returns the step of the checkpoint in between."""
    stage = dice.choice(["stage1", "stage2"])
    batch = dice.choice([None, 0])
    step = 4 if batch is not None else dice.randrange(1, 9)
    callbacks = (two_ranks.Signal(dice.randrange(2), number, step, batch),)
    equal(wait(fork(run, stage, folder, 2, callbacks), seconds=60), INTERRUPTED)
    between = newest(folder).step or 0
    finish(run, stage, folder)
    equal(state(folder), whole(stage))
    equal([path.name for path in folder.rglob(f"{TEMPORARY}*")], [])
    return between - step


@fault("SIGTERM of one of two processes", 10)
def _sigterm(folder: Path, dice: random.Random) -> None:
    equal(signalled(signal.SIGTERM, folder, dice), 0)


@fault("kill -9 of one of two processes", 6)
def _sigkill(folder: Path, dice: random.Random) -> None:
    signalled(signal.SIGKILL, folder, dice)


@fault("2 processes, then 1; 1, then 2: each image once an epoch", 4)
def _ranks(folder: Path, dice: random.Random) -> None:
    before = dice.choice([1, 2])
    shown = folder / "shown"
    shown.mkdir()
    step = dice.randrange(2, 8)
    callbacks = (two_ranks.Shown(shown), two_ranks.Signal(0, signal.SIGTERM, step, None))
    equal(wait(fork(run, "stage2", folder, before, callbacks)) != 0, True)
    for path in shown.glob(f"batch-{step}-of-{before}-*"):  # begun, not trained on
        path.unlink()
    finish(run, "stage2", folder, 3 - before, (two_ranks.Shown(shown),))
    equal(two_ranks.draws_shown(shown), {epoch: list(range(10 * epoch, 10 * epoch + 10)) for epoch in range(3)})
