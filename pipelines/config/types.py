"""Type hints as a configuration knows them: whether plain data fits one, and what a person would call it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union


def fits(value: Any, hint: Any) -> bool:
    """Whether plain data fits a type hint. An object, or a node that describes one, fits any class."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin in (tuple, list) or origin is Sequence:
        return isinstance(value, list | tuple) and _elements_fit(value, origin, inner)
    if origin is dict:
        return isinstance(value, Mapping)
    return not (value is None or isinstance(value, str | int | float)) or hint is Any


def _elements_fit(value: Sequence[Any], origin: Any, inner: tuple[Any, ...]) -> bool:
    if origin is tuple and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    return all(fits(element, inner[0]) for element in value)


def name_of(hint: Any) -> str:
    """A type hint in words: ``int or null``, ``list of str``."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (None, type(None)):
        return "null"
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(map(name_of, inner))
    if origin in (list, tuple, Sequence):
        kinds = dict.fromkeys(name_of(kind) for kind in inner if kind is not Ellipsis)
        return f"list of {', '.join(kinds)}"
    if origin is not None and issubclass(origin, Mapping):
        return "mapping"
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")
