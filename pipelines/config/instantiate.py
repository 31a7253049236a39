"""Configuration nodes with a ``_target_`` become objects, checked against the target's own signature."""

from __future__ import annotations

import copy
import difflib
import importlib
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any

from pipelines.config.migrations import name_of_today
from pipelines.config.signatures import MISSING, Signature, signature_of
from pipelines.config.source import OWN
from pipelines.config.types import fits, name_of


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
    """The class or function of this project, or of a trusted package, that a ``_target_`` names.

    Raises:
        ValueError: If there is none, or it belongs to another package.
    """
    check_package(name, path, trust)
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        target = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}._target_: there is no {name!r} ({error})") from error
    # What a trusted module merely imported (os.system, say) is not its own.
    home = getattr(target, "__module__", None)
    if not callable(target) or home is None or home.partition(".")[0] not in (*OWN, *trust):
        raise ValueError(f"{path}._target_: {name!r} is not a class or function of {name.partition('.')[0]}")
    return target


def check_package(name: str, path: str, trust: Sequence[str] = ()) -> None:
    """Raise ValueError unless a dotted name begins with a package of this project or a trusted one."""
    package = name.partition(".")[0]
    if package not in (*OWN, *trust):
        raise ValueError(
            f"{path}._target_: {name!r} is outside of this project; if you trust that package, add trust=[{package}]"
        )


def check(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
    """Raise ValueError unless the arguments fit the target's signature, by name and by type."""
    signature = signature_of(target)
    if signature is not None:
        check_arguments(signature, arguments, path)


def check_arguments(
    signature: Signature, arguments: Mapping[str, Any], path: str, given: Collection[str] = (), target: str = ""
) -> None:
    """Raise ValueError unless the arguments fit a signature, by name and by type.

    Args:
        signature: What the target takes.
        arguments: By name.
        path: Where they stand in the configuration, for messages.
        given: Required arguments that the target gets from elsewhere.
        target: Its dotted name, by which arguments that an earlier version called otherwise are known.
    """
    for key in arguments:
        if key not in signature:
            raise ValueError(no_such_key(f"{path}.{key}".lstrip("."), signature, target))
    for key, argument in signature.items():
        if argument.required and key not in arguments and key not in given:
            raise ValueError(f"{path}.{key}".lstrip(".") + ": a value is needed")
    for key, value in arguments.items():
        hint = signature[key].hint
        if not fits(value, hint):
            raise ValueError(wrong_type(f"{path}.{key}".lstrip("."), value, hint))


def wrong_type(path: str, value: Any, hint: Any) -> str:
    """A message about a value that does not fit the type of its key, with how to give a text that looks like it."""
    message = f"{path}: {name_of(hint)} expected, got {value!r}"
    if isinstance(value, bool | int | float) and fits("", hint):
        text = str(value).lower()  # true and 1e+16, as the command line has them
        message += f"; a text is quoted: \"{path}='{text}'\""
    return message


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
        signature = signature_of(find(str(filled["_target_"]), "", trust))
    except ValueError:
        return filled
    for name, argument in (signature or {}).items():
        if argument.default is not MISSING and name not in but:
            filled.setdefault(name, copy.deepcopy(argument.default))  # signatures are kept
    return filled


def no_such_key(path: str, valid: Iterable[str], target: Any = None) -> str:
    """A message about a key that is not there: what an earlier version's is called today, or the nearest that is there.

    Args:
        path: The key as the command line names it.
        valid: Keys that are there.
        target: ``_target_`` of the node that it stands in.
    """
    today = name_of_today(path, target)
    near = f" it is called {today} now" if today else suggestion(path.rpartition(".")[2], valid)
    return f"{path}: no such key;{near}"


def suggestion(key: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown key: the nearest valid one, or all of them."""
    names = list(valid)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    if near:
        return f" did you mean {near[0]}?"
    return f" there are {', '.join(names)}" if names else " there are none"
