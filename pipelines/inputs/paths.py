"""The door for paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.inputs.numbers import shown


def path_of(value: Any, name: str) -> Path:
    """A path, with ``~`` for the user's folder.

    Raises:
        ValueError: If it is neither a text nor a path.
    """
    if not isinstance(value, str | Path):
        raise ValueError(f"{name}: a path expected, got {shown(value)}")
    return Path(value).expanduser()
