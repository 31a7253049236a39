"""Secrets stay where they were given: whatever is written of a configuration goes through here first."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "<redacted>"
SHORTEST = 6
"""A secret has at least so many characters; shorter values of the environment (1, true, …) are found anywhere."""

_NAME = re.compile(r"(^|[_.\-+])(key|apikey|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a key or an environment variable of that name holds a secret: ``api_key``, ``HF_TOKEN``, ``password``."""
    return bool(_NAME.search(name))


def redact(plain: Any) -> Any:
    """Plain data without its secrets.

    A secret is the value of a key with a secret's name (see :func:`is_secret_name`), that of an override
    ``key=value`` with such a key, and the value of an environment variable with such a name wherever it stands,
    also within a longer text: ``${oc.env:HF_TOKEN}`` is that value by the time a configuration is read.
    """
    known = [value for name, value in os.environ.items() if is_secret_name(name) and len(value) >= SHORTEST]
    return _redact(plain, sorted(known, key=len, reverse=True))


def _redact(plain: Any, known: list[str]) -> Any:
    if isinstance(plain, Mapping):
        return {
            _redact(key, known): REDACTED if value and is_secret_name(str(key)) else _redact(value, known)
            for key, value in plain.items()
        }
    if isinstance(plain, list | tuple):
        return [_redact(value, known) for value in plain]
    if not isinstance(plain, str):
        return plain
    for value in known:
        plain = plain.replace(value, REDACTED)
    name, equals, _ = plain.partition("=")
    return f"{name}={REDACTED}" if equals and is_secret_name(name) else plain
