"""Lengths of time as people write them: ``20min``, ``1h30min``, ``2d``."""

from __future__ import annotations

import re

from pipelines.config.settings import Settings

UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
SHORTEST = 60
"""Seconds; less than a minute is spent on finding out what to do."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def seconds_of(text: str) -> float:
    """Seconds of a length of time.

    Raises:
        ValueError: If it is none, or shorter than a minute.
    """
    parts = _PART.findall(text.lower())
    if "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text.lower()) or not parts:
        raise ValueError(f"budget={text}: a length of time expected, as 20min, 2h or 1d")
    unknown = [unit for _, unit in parts if unit not in UNITS]
    if unknown:
        raise ValueError(f"budget={text}: no unit {unknown[0]}; there are {', '.join(UNITS)}")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if seconds < SHORTEST:
        raise ValueError(f"budget={text} is too short: give {SHORTEST}s or more")
    return seconds


def refuse_budget(task: str, settings: Settings) -> None:
    """Raise ValueError if a task that is one step of a run is given a time: it is divided among all of them."""
    if settings.get("budget") is not None and not task.endswith(":run"):
        raise ValueError(f"budget={settings['budget']} is for a whole run: give it to pipelines.run")


def spoken(seconds: float) -> str:
    """A length of time in words, to two units: ``1 h 30 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
