"""A command's settings: its whole configuration, resolved to plain data."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
"""A command's whole configuration, resolved to plain data."""
