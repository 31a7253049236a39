"""Progress of long work: on a terminal a bar of one line, which goes when it is done; elsewhere a line at times."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

PERIOD = 30.0
"""Seconds between two lines where there is no terminal."""

REFRESH = 2
"""Pictures of a bar in a second."""


class Progress:
    """Shows how far some work is; a context manager.

    Args:
        title: What is done.
        total: Units of the whole work.
        done: Units that were done before.
        unit: Name of the units in the plural, with which their speed is shown; empty shows none.
    """

    silent = False
    """Whether nothing is shown by this process: another one shows it."""
    lines_only = False
    """Whether other processes show their progress in the same place: bars would hide one another."""
    job = ""
    """What titles begin with: the job of a sweep."""
    afterwards = ("", 0.0)
    """What comes after the work that is shown, and about how many seconds it takes; 0 if that is not known."""

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "") -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.note = ""
        self._before = done
        self._bars: Bars | None = None

    def __enter__(self) -> Progress:
        self._start = self._said = time.monotonic()
        console = Console(file=sys.stdout, highlight=False)
        if console.is_terminal and not self.silent and not self.lines_only:
            rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # what the others leave of the line
            columns = (
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=10),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False, table_column=rest),
            )
            self._bars = Bars(*columns, console=console, transient=True, expand=True, refresh_per_second=REFRESH)
            self._task = self._bars.add_task(self.job + self.title, total=self.total, completed=self.done, note="")
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def advance(self, units: int = 1) -> None:
        """Note that some more is done."""
        self.reach(self.done + units)

    def reach(self, done: int, note: str | None = None) -> None:
        """Note how much is done, and what else is to be shown beside it."""
        self.done = min(done, self.total)
        self.note = self.note if note is None else note
        if self._bars is not None:
            self._bars.update(self._task, completed=self.done, note=self._beside())
        elif not self.silent and time.monotonic() - self._said >= PERIOD:
            self._said = time.monotonic()
            print(self.line(self._said - self._start), flush=True)

    def line(self, elapsed: float) -> str:
        """How far the work is after some seconds, as a line."""
        rest = self._rest(elapsed)
        left = "" if rest is None else f", {clock(rest)} left"
        beside = f", {found}" if (found := self._beside(elapsed)) else ""
        return f"{self.job}{self.title}: {self.done:,} of {self.total:,}{left}{beside}"

    def _rest(self, elapsed: float) -> float | None:
        """Seconds that the work still takes; None where that is not known."""
        made = self.done - self._before
        return elapsed / made * (self.total - self.done) if made > 0 else None

    def _beside(self, elapsed: float | None = None) -> str:
        """The time until the work that comes afterwards is done, the note and the speed."""
        elapsed = time.monotonic() - self._start if elapsed is None else elapsed
        made = self.done - self._before
        name, seconds = self.afterwards
        rest = self._rest(elapsed)
        whole = f"about {clock(rest + seconds)} with {name}" if seconds > 0 and rest is not None else ""
        speed = f"{made / elapsed:.3g} {self.unit}/s" if self.unit and made > 0 and elapsed > 0 else ""
        return ", ".join(filter(None, (whole, self.note, speed)))


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds: ``1:05`` or ``2:00:09``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
