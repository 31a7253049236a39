"""Secrets are hidden in what is written of a configuration: settings, records, trackers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

REDACTED = "<redacted>"

LENGTH = 8
"""A secret of the environment has at least so many characters."""

LONG = 20
"""A value of at least so many characters is a secret even if it has letters alone."""

_NAME = re.compile(r"(^|[_.\-+])(key|apikey|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a key or an environment variable of that name holds a secret: ``api_key``, ``HF_TOKEN``, ``password``."""
    return bool(_NAME.search(name))


def is_secret_value(value: str) -> bool:
    """Whether the value of an environment variable can be told from ordinary text.

    ``vector`` or ``12345`` may be somebody's password. They are also words of a configuration, in which to hide them
    would change what it says.
    """
    return len(value) >= LONG or (len(value) >= LENGTH and not value.isalpha() and not value.isdigit())


def redact(plain: Any) -> Any:
    """Plain data without its secrets.

    A secret is the text of a key with a secret's name (see :func:`is_secret_name`), that of an override ``key=value``
    with such a key, and the value of an environment variable with such a name: ``${oc.env:HF_TOKEN}`` is that value by
    the time a configuration is read. The last is hidden where it stands alone or between other characters than letters
    and digits, as in ``https://me:secret@host``. One that is short or a plain word is left alone, with a warning.
    """
    named = {name: value for name, value in os.environ.items() if is_secret_name(name) and value}
    hidden = [value for value in named.values() if is_secret_value(value)]
    words = {value: name for name, value in named.items() if not is_secret_value(value)}
    return _redact(plain, _standing_alone(hidden), words)


def _standing_alone(values: list[str]) -> re.Pattern[str] | None:
    """A pattern of values that are no part of a word; None for no values."""
    found = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return re.compile(f"(?<![A-Za-z0-9])(?:{found})(?![A-Za-z0-9])") if found else None


def _redact(plain: Any, hidden: re.Pattern[str] | None, words: Mapping[str, str]) -> Any:
    if isinstance(plain, Mapping):
        return {
            _redact(key, hidden, {}): value
            if key == "_target_"  # the path of a class, whatever else it may be
            else REDACTED
            if value and isinstance(value, str) and is_secret_name(str(key))
            else _redact(value, hidden, words)
            for key, value in plain.items()
        }
    if isinstance(plain, list | tuple):
        return [_redact(value, hidden, words) for value in plain]
    if not isinstance(plain, str):
        return plain
    if plain in words:
        _warn(words[plain])
    name, equals, _ = plain.partition("=")
    if equals and is_secret_name(name):
        return f"{name}={REDACTED}"
    return hidden.sub(REDACTED, plain) if hidden else plain


@cache
def _warn(name: str) -> None:
    """Say once that a secret cannot be told from ordinary text."""
    print(
        f"warning: the value of {name} is short or a plain word, and stands in the configuration: "
        "it is not hidden in what is written",
        file=sys.stderr,
        flush=True,
    )
