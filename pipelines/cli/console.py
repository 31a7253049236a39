"""Where commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

WARNING = "[yellow]!"
"""How a warning begins."""


class CommandConsole(Console):
    """A console that a job of a sweep shares with others: of a job only warnings are printed, after its name.

    Attributes:
        job: The job's name; empty outside of sweeps.
        shared: Whether jobs of other processes print in the same place.
    """

    job = ""
    shared = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, unless it is no warning of a job."""
        if self.job:
            if not (objects and str(objects[0]).startswith(WARNING)):
                return
            objects = (f"{self.job}{objects[0]}", *objects[1:])
        super().print(*objects, **options)

    def print_once(self, lines: Sequence[str]) -> None:
        """Print some lines, of the jobs of a sweep in this process those that are equal once.

        Where jobs of other processes print too, each line begins with the job.
        """
        told = self.__dict__.setdefault("_told", set())
        if not self.job or tuple(lines) not in told:
            super().print("\n".join(f"{self.job if self.shared else ''}{line}" for line in lines))
        told.add(tuple(lines))


# In a notebook too they print lines of text: each would be an output of its own as HTML.
console = CommandConsole(highlight=False, soft_wrap=True, force_jupyter=False)
