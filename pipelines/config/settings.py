"""A command's settings: its whole configuration, resolved to plain data."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
"""A command's whole configuration, resolved to plain data."""


def stage_seed(settings: Settings, stage: str) -> int:
    """The seed of a stage, ``stage1`` or ``stage2``: its own, or that of the whole run where it has none."""
    seed: int = settings[stage].get("seed", settings["seed"])
    return seed
