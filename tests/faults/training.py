"""Interrupted trainings: what they leave in the end is what an uninterrupted one leaves, to the bit."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipelines.training import checkpoint_files
from pipelines.training.checkpoint_files import newest, step_path
from stage1_vqvae.files import TEMPORARY
from tests.faults.faults import SilentlyWrong, equal, fault
from tests.faults.forks import finish, fork, interrupt, wait
from tests.pipelines.training.test_nonfinite import Spoil
from tests.support.resuming import At, final_state, prior_training, tokenizer_training, train

MAKERS = {"stage 1": tokenizer_training, "stage 2": prior_training}


def state(folder: Path) -> str:
    """SHA-256 of all that a finished training leaves: weights, average, optimiser, codebook, counters."""
    digest = hashlib.sha256()
    for name, value in sorted(final_state(folder).items()):
        digest.update(name.encode())
        digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return digest.hexdigest()


def run(stage: str, folder: Path, callbacks: tuple[Any, ...] = (), **options: Any) -> None:
    """A whole training, going on from what is there."""
    train(MAKERS[stage](), folder, callbacks, **options)


@functools.cache
def whole(stage: str, options: tuple[tuple[str, Any], ...] = ()) -> tuple[str, float]:
    """State and seconds of an uninterrupted training."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        finish(functools.partial(run, **dict(options)), stage, Path(folder))
        return state(Path(folder)), time.monotonic() - start


def check_end(stage: str, folder: Path, **options: Any) -> None:
    """Go on to the end and compare; nothing temporary is left."""
    finish(functools.partial(run, **options), stage, folder)
    equal(state(folder), whole(stage, tuple(options.items()))[0])
    equal([path.name for path in folder.rglob(f"{TEMPORARY}*")], [])


def at(action: Callable[[], None], step: int, batch: int | None = None) -> tuple[At]:
    """Callbacks that do something once."""
    return (At(action, step, batch),)


def kill() -> None:
    """kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_a_moment(stage: str, folder: Path, dice: random.Random, **options: Any) -> None:
    """kill -9 at three random moments, then the end."""
    _, seconds = whole(stage, tuple(options.items()))
    for _ in range(3):
        interrupt(signal.SIGKILL, seconds, dice, functools.partial(run, **options), stage, folder)
    check_end(stage, folder, **options)


@fault("kill -9 of stage 1 at any moment, three times", 17)
def _stage1(folder: Path, dice: random.Random) -> None:
    killed_at_a_moment("stage 1", folder, dice)


@fault("kill -9 of stage 2 at any moment, three times", 17)
def _stage2(folder: Path, dice: random.Random) -> None:
    killed_at_a_moment("stage 2", folder, dice)


@fault("kill -9 while gradients accumulate", 10)
def _accumulating(folder: Path, dice: random.Random) -> None:
    killed_at_a_moment(dice.choice(list(MAKERS)), folder, dice, accumulate_grad_batches=3, max_steps=6)


@fault("kill -9 with two data workers", 5)
def _workers(folder: Path, dice: random.Random) -> None:
    killed_at_a_moment("stage 1", folder, dice, workers=2)


@fault("kill -9 at an epoch's end (steps 5 and 8 of batches 4 of 10)", 4)
def _epoch(folder: Path, dice: random.Random) -> None:
    stage = dice.choice(list(MAKERS))
    for step in (5, 8):
        wait(fork(run, stage, folder, at(kill, step)))
    check_end(stage, folder)


@fault("kill -9 in a validation", 10)
def _validating(folder: Path, dice: random.Random) -> None:
    stage = dice.choice(list(MAKERS))
    equal(wait(fork(run, stage, folder, at(kill, dice.choice([4, 8]), dice.randrange(3)))), -signal.SIGKILL)
    check_end(stage, folder)


def run_and_die_writing(stage: str, folder: Path, place: str, call: int) -> None:
    """A training that is killed within the writing of a checkpoint."""
    calls = {"left": call}

    def killing(plain: Callable[..., Any], half: bool = False) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            calls["left"] -= 1
            if calls["left"]:
                return plain(*arguments, **options)
            if half:
                arguments[1].write(b"PK" * 4000)
                arguments[1].flush()
            kill()

        return wrapped

    if place == "half a file":
        torch.save = killing(torch.save, half=True)
    elif place == "digest":
        checkpoint_files.sha256 = killing(checkpoint_files.sha256)
    elif place == "fsync":
        os.fsync = killing(os.fsync)
    else:
        Path.replace = killing(Path.replace)  # type: ignore[method-assign]
    run(stage, folder, checkpoint_every=1)


def killed_writing(folder: Path, dice: random.Random) -> None:
    """Two kills within writes, then the end."""
    stage = dice.choice(list(MAKERS))
    for _ in range(2):
        place = dice.choice(["half a file", "digest", "fsync", "rename"])
        wait(fork(run_and_die_writing, stage, folder, place, dice.randrange(1, 6)))
    check_end(stage, folder, checkpoint_every=1)


@fault("kill -9 within the writing of a checkpoint", 25)
def _writing(folder: Path, dice: random.Random) -> None:
    killed_writing(folder, dice)


@fault("the same with TMPDIR on another file system", 10)
def _writing_elsewhere(folder: Path, dice: random.Random) -> None:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = "/dev/shm"
    try:
        killed_writing(folder, dice)
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before


def signalled(number: int, folder: Path, dice: random.Random, batch: int | None = None, times: int = 1) -> None:
    """A signal in a step: exit code, checkpoint of that step, and the same end."""

    def send() -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)

    stage = dice.choice(list(MAKERS))
    step = 4 if batch is not None else dice.randrange(1, 9)
    start = time.monotonic()
    equal(wait(fork(run, stage, folder, at(send, step, batch)), seconds=30), 128 + number)
    if time.monotonic() - start > 10 + whole(stage)[1]:
        raise TimeoutError("it took more than 10 s")
    equal(newest(folder).step, step)
    check_end(stage, folder)


@fault("SIGTERM in training", 15)
def _sigterm(folder: Path, dice: random.Random) -> None:
    signalled(signal.SIGTERM, folder, dice)


@fault("SIGTERM in a validation", 10)
def _sigterm_validating(folder: Path, dice: random.Random) -> None:
    signalled(signal.SIGTERM, folder, dice, batch=dice.randrange(3))


@fault("SIGINT, several times", 5)
def _sigint(folder: Path, dice: random.Random) -> None:
    signalled(signal.SIGINT, folder, dice, times=3)


@fault("SIGTERM and SIGKILL at any moment in turn", 10)
def _in_turn(folder: Path, dice: random.Random) -> None:
    stage = dice.choice(list(MAKERS))
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        interrupt(number, whole(stage)[1], dice, run, stage, folder)
    check_end(stage, folder)


@fault("newest checkpoint cut or flipped: the one before is taken", 20)
def _damaged(folder: Path, dice: random.Random) -> None:
    stage = dice.choice(list(MAKERS))
    wait(fork(run, stage, folder, at(kill, 7)))
    path = step_path(folder, newest(folder).step or 0)
    data = bytearray(path.read_bytes())
    if dice.random() < 0.5:
        del data[dice.randrange(len(data)) :]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    if newest(folder).step == 6:
        raise SilentlyWrong("the damaged checkpoint was taken")
    check_end(stage, folder)


@fault("gradients that are not finite", 10)
def _not_finite(folder: Path, dice: random.Random) -> None:
    steps = {dice.randrange(1, 10) for _ in range(3)}
    value = dice.choice([float("nan"), float("inf"), -float("inf"), 1e30])
    finish(run, dice.choice(list(MAKERS)), folder, (Spoil(steps, value),))
    found = final_state(folder)
    tensors = [value for value in found.values() if isinstance(value, torch.Tensor)]
    equal(all(bool(torch.isfinite(value).all()) for value in tensors), True)
    equal([value for name, value in found.items() if name.endswith(".skipped")], [len(steps)])


@fault("nothing but gradients that are not finite: the end", 4)
def _never_finite(folder: Path, dice: random.Random) -> None:
    stage = dice.choice(list(MAKERS))
    spoil = Spoil(set(range(1, 10)), float("nan"))
    equal(wait(fork(functools.partial(run, max_skipped=4), stage, folder, (spoil,))), 1)
