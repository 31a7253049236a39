"""Configuration nodes with a ``_target_`` become objects, checked against the target's own signature."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal, Union

OWN = ("stage1_vqvae", "stage2_prior", "pipelines")
"""Packages whose classes a configuration may name."""


def build(node: Any, path: str = "", trust: Sequence[str] = (), **more: Any) -> Any:
    """The object that a configuration describes.

    A mapping with ``_target_`` is called with its other keys as arguments, after its own nested nodes were built;
    anything else stays as it is. The signature of the target is the schema: unknown and missing keys and values of
    a wrong type end in one line that says where and what would fit.

    Args:
        node: Plain data.
        path: Where the node stands in the configuration, for messages.
        trust: Further packages whose classes may be named.
        more: Arguments for the outermost target that no configuration can hold.

    Raises:
        ValueError: If the node does not fit, or names something outside of this project and ``trust``.
    """
    if isinstance(node, Mapping):
        built = {key: build(value, f"{path}.{key}".lstrip("."), trust) for key, value in node.items()}
        if "_target_" not in built:
            return built
        target = find(str(built.pop("_target_")), path, trust)
        check(target, {**built, **more}, path)
        try:
            return target(**built, **more)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if isinstance(node, list | tuple):
        return [build(value, f"{path}[{index}]", trust) for index, value in enumerate(node)]
    return node


def find(name: str, path: str, trust: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function of this project, or of a trusted package, that a ``_target_`` names."""
    module_name, _, attribute = name.rpartition(".")
    package = name.partition(".")[0]
    if package not in (*OWN, *trust):
        raise ValueError(
            f"{path}._target_: {name!r} is outside of this project; if you trust that package, add trust=[{package}]"
        )
    try:
        module = importlib.import_module(module_name)
        target = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}._target_: there is no {name!r} ({error})") from error
    # What a trusted module merely imported (os.system, say) is not its own.
    home = getattr(target, "__module__", None)
    if not callable(target) or home is None or home.partition(".")[0] not in (*OWN, *trust):
        raise ValueError(f"{path}._target_: {name!r} is not a class or function of {package}")
    return target


def check(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
    """Raise ValueError unless the arguments fit the signature, by name and by type."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in arguments:
        if key not in parameters:
            raise ValueError(f"{path}.{key}: no such key;{suggestion(key, parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ValueError(f"{path}.{key}: a value is needed")
    hints = hints_of(target)
    for key, value in arguments.items():
        if key in hints and not fits(value, hints[key]):
            raise ValueError(f"{path}.{key}: {name_of(hints[key])} expected, got {value!r}")


def with_defaults(node: Any, trust: Sequence[str] = (), but: Container[str] = ()) -> Any:
    """A configuration in which the arguments that it leaves to their defaults are written out, as plain data.

    Args:
        node: Plain data.
        trust: Further packages whose classes may be named. A class that cannot be found is left as it is.
        but: Arguments of the outermost class that it gets from elsewhere.
    """
    if isinstance(node, list | tuple):
        return [with_defaults(value, trust) for value in node]
    if not isinstance(node, Mapping):
        return node
    filled = {key: with_defaults(value, trust) for key, value in node.items()}
    if "_target_" not in filled:
        return filled
    try:
        parameters = inspect.signature(find(str(filled["_target_"]), "", trust)).parameters
    except ValueError:
        return filled
    for name, parameter in parameters.items():
        default = _plain(parameter.default)
        if default is not _NOT_PLAIN and name not in but:
            filled.setdefault(name, default)
    return filled


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    """A default as plain data; a mark for one that is missing or an object."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else _NOT_PLAIN


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Type hints of a target's arguments, each read in the module that wrote it."""
    if not inspect.isclass(target):
        return typing.get_type_hints(target)
    # A dataclass's own __init__ has the hints of its bases too, as text that only their modules can read.
    found: dict[str, Any] = {}
    for part in reversed(target.__mro__):
        if dataclasses.is_dataclass(part):
            found |= typing.get_type_hints(part)
        elif "__init__" in vars(part):
            found |= typing.get_type_hints(vars(part)["__init__"])
    return found


def suggestion(key: str, valid: Any) -> str:
    """The end of a message about an unknown key: the nearest valid one, or all of them."""
    near = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.5)
    return f" did you mean {near[0]}?" if near else f" there are {', '.join(valid)}"


def fits(value: Any, hint: Any) -> bool:
    """Whether plain data suits a type hint; objects and hints beyond plain data always do."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin in (tuple, list) or origin is Sequence:
        return isinstance(value, list | tuple) and _elements_fit(value, origin, inner)
    return not (value is None or isinstance(value, str | int | float)) or hint is Any


def _elements_fit(value: Sequence[Any], origin: Any, inner: tuple[Any, ...]) -> bool:
    if origin is tuple and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    return all(fits(element, inner[0]) for element in value)


def name_of(hint: Any) -> str:
    """A type hint as a person would say it."""
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
