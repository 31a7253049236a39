"""SIGTERM, SIGINT and SIGUSR1 as a request to stop at the end of the step."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from pipelines.cli.signals import SIGNALS
from pipelines.distributed import collectives


class StopRequest:
    """Notes that the process was asked to stop; a context manager that handles the signals for its duration.

    However often a signal comes (launchers repeat it), the step is finished and its checkpoint written; whoever
    cannot wait kills the process, which loses the steps since the last checkpoint and nothing else.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._agreed = False

    @property
    def requested(self) -> bool:
        """Whether a signal came to this process."""
        return self.signal is not None

    @property
    def agreed(self) -> bool:
        """Whether a signal came to any process, as all of them found in the last step; of one process, until now."""
        return self.requested if collectives.ranks() == 1 else self._agreed

    def agree(self, requested_anywhere: bool) -> None:
        """Take note of what all processes found together in a step."""
        self._agreed = requested_anywhere

    def exit(self, step: int) -> NoReturn:
        """End the process after a step, on every rank, whichever was asked.

        Raises:
            SystemExit: With the code that shells give a process which a signal ended.
        """
        reason = self.signal or signal.SIGTERM
        if collectives.rank() == 0:
            message = f"stopped by {reason.name} after step {step}: the same command goes on from there"
            print(message, file=sys.stderr, flush=True)
        raise SystemExit(128 + reason)

    def __enter__(self) -> StopRequest:
        # Python runs handlers in its main thread alone, and lets nobody else set them.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)


def ignore_signals(worker: int) -> None:
    """Ignore signals in a data worker: its parent handles them, though they are sent to the whole process group."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
