"""The command and the Python code that make what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.report.commands import word


def command_of(model: Path, name: str, asked: Mapping[str, Any]) -> str:
    """A command with its keys and values, for a shell; keys that are None are left out."""
    words = [word(key, value) for key, value in asked.items() if value is not None]
    return " ".join([f"python -m pipelines.{name}", word("model", str(model)), *words])


def python_of(model: Path, call: str, asked: Mapping[str, Any]) -> str:
    """The same from Python; keys that are None are left out."""
    given = ", ".join(f"{key}={value!r}" for key, value in asked.items() if value is not None)
    return f"from pipelines import Generator\n\ngenerator = Generator.load({str(model)!r})\n{call.format(given)}\n"
