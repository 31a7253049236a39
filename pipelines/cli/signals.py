"""Signals that ask a command to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""SIGTERM of schedulers, SIGINT of Ctrl-C, SIGUSR1 of ``sbatch --signal=USR1``."""

STOPPED = frozenset(128 + number for number in SIGNALS)
"""Exit codes of processes that were asked to stop."""


class StopSignal(KeyboardInterrupt):
    """One of the signals came.

    Attributes:
        number: Which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(quiet: bool = False) -> Iterator[None]:
    """End with one line and the exit code of the signal when one comes while the block runs.

    A training has its own way to stop, at the end of a step (:class:`~pipelines.training.preemption.StopRequest`).

    Args:
        quiet: Whether another process says the line.

    Raises:
        SystemExit: With the code that shells give a process which a signal ended.
    """
    here = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    before = {number: signal.signal(number, _stop) for number in SIGNALS} if here else {}
    try:
        yield
    except KeyboardInterrupt as error:
        number = signal.Signals(error.number if isinstance(error, StopSignal) else signal.SIGINT)
        if not quiet:
            print(
                f"stopped by {number.name}: the same command goes on with what is not finished",
                file=sys.stderr,
                flush=True,
            )
        raise SystemExit(128 + number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopSignal(number)
