"""A key and its value as Hydra's grammar has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from pipelines.config.conf import groups

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z/][\w./-]*", re.ASCII | re.IGNORECASE)
"""Text that means nothing but itself to a shell and to Hydra."""


def override(key: str, value: Any) -> str:
    """Hydra's override of a key; a group's options are chosen, other keys set, whether or not they were there."""
    name = key.partition("@")[0]
    if isinstance(value, str) and name in groups():
        return f"{key}={value}"
    return f"++{key}={literal(value)}"


def key_of(word: str) -> str:
    """The key that an override sets, adds or deletes: ``seed`` of ``+seed=3``."""
    return word.lstrip("+~").partition("=")[0]


def literal(value: Any) -> str:
    """A value in Hydra's grammar; text is quoted where it would mean something else."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(literal, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if PLAIN.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()
