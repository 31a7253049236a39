"""What a fault is, and the list of them."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SCALE = 1.0
"""Multiplies every count: 10 injects ten times as many of each."""


class SilentlyWrong(Exception):
    """Something ended well and is not what it ought to be."""


def equal(found: object, expected: object) -> None:
    """Raise SilentlyWrong unless both are the same."""
    if found != expected:
        raise SilentlyWrong(f"{found} instead of {expected}")


@dataclass
class Outcome:
    """Counts of one fault."""

    name: str
    injected: int = 0
    survived: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)


Injection = Callable[[Path, random.Random], None]
ALL: list[tuple[str, int, Injection]] = []


def fault(name: str, count: int) -> Callable[[Injection], Injection]:
    """List a function that injects one fault into an empty folder and raises unless it is survived."""

    def listed(inject: Injection) -> Injection:
        ALL.append((name, count, inject))
        return inject

    return listed


def inject_all(name: str, count: int, inject: Injection) -> Outcome:
    """Inject a fault so many times; each has a seed of its own."""
    outcome = Outcome(name)
    for number in range(max(1, round(count * SCALE))):
        outcome.injected += 1
        quiet = contextlib.redirect_stdout(io.StringIO())
        with tempfile.TemporaryDirectory(prefix="fault-") as folder, quiet:
            try:
                inject(Path(folder), random.Random(f"{name} {number}"))
                outcome.survived += 1
            except SilentlyWrong as error:
                outcome.wrong += 1
                outcome.notes.append(f"{number}: silently wrong: {error}")
            except Exception as error:  # counted as not survived, whatever it is
                outcome.notes.append(f"{number}: {type(error).__name__}: {error}")
    return outcome
