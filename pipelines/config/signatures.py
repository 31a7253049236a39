"""What a target takes: its arguments with their types, defaults and meanings.

There are two ways to know. :func:`read_signature` reads the source without importing it, so that a mistake in a command
line is found before torch is imported, and ``--info`` needs no import either. :func:`signature_of` asks the class or
function itself; it knows whatever Python can express and is asked when the target is called.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from pipelines.config.source import Definition, Module, find_definition

MISSING = object()
"""Default of an argument that has none, or none that is plain data."""


@dataclass(frozen=True)
class Argument:
    """An argument of a target.

    Attributes:
        hint: Its type; a class that is not imported is an empty class of the same name.
        required: Whether it has no default.
        default: The default, where it is plain data; :data:`MISSING` otherwise.
        meaning: What the docstring says of it, without line breaks.
    """

    hint: Any = Any
    required: bool = True
    default: Any = MISSING
    meaning: str = ""


Signature = dict[str, Argument]


@cache
def signature_of(target: Callable[..., Any]) -> Signature | None:
    """The arguments of a class or function; None where it takes any by ``**kwargs``."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    hints = hints_of(target)
    return {
        name: Argument(hints.get(name, Any), parameter.default is parameter.empty, plain_default(parameter.default))
        for name, parameter in parameters.items()
    }


def plain_default(value: Any) -> Any:
    """A default as plain data, :data:`MISSING` for one that is none."""
    if isinstance(value, list | tuple):
        return [plain_default(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else MISSING


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Type hints of a target's arguments, each read in the module that wrote it; Any for one imported for checkers."""
    if not inspect.isclass(target):
        return _evaluated(target, getattr(inspect.unwrap(target), "__globals__", {}))
    # A dataclass's own __init__ has the hints of its bases too, as text that only their modules can read.
    found: dict[str, Any] = {}
    for part in reversed(target.__mro__):
        if dataclasses.is_dataclass(part):
            found |= _evaluated(part, vars(sys.modules[part.__module__]))
        elif inspect.isfunction(own := vars(part).get("__init__")):
            found |= _evaluated(own, inspect.unwrap(own).__globals__)
    return found


def _evaluated(annotated: Any, names: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument, hint in inspect.get_annotations(annotated).items():
        try:
            found |= typing.get_type_hints(SimpleNamespace(__annotations__={argument: hint}), names)
        except NameError:  # under ``if TYPE_CHECKING``: checkers know it, the running module does not
            found[argument] = Any
    return found


def read_signature(name: str) -> Signature | None:
    """The arguments of a class or function by its dotted name, from its source; None where the source does not say.

    Raises:
        LookupError: If its module, or it in its module, does not exist.
    """
    definition = find_definition(name)
    return None if definition is None else _read(definition)


def _read(definition: Definition) -> Signature | None:
    found = _arguments_of(definition)
    if found is None:
        return None
    # A class does not repeat what the ones it comes from say of an argument.
    meanings: dict[str, str] = {}
    for part in (definition, *definition.ancestors()):
        meanings = described(ast.get_docstring(part.node) or "") | meanings
    return {name: dataclasses.replace(argument, meaning=meanings.get(name, "")) for name, argument in found.items()}


def _arguments_of(definition: Definition) -> Signature | None:
    module, node = definition.module, definition.node
    if isinstance(node, ast.FunctionDef):
        return None if node.decorator_list else _parameters(module, node)  # a decorator may change what it takes
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            found = _parameters(module, part)
            return found and {name: found[name] for name in list(found)[1:]}
    bases = [_arguments_of(base) or {} for base in definition.bases()]
    if _is_dataclass(node):
        return {name: argument for base in reversed(bases) for name, argument in base.items()} | _fields(module, node)
    return bases[0] if bases else (None if node.bases else {})


def _parameters(module: Module, node: ast.FunctionDef) -> Signature | None:
    if node.args.kwarg is not None:
        return None
    positional = [*node.args.posonlyargs, *node.args.args]
    without_default: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = list(zip(positional, [*without_default, *node.args.defaults], strict=True))
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {
        argument.arg: Argument(module.hint(argument.annotation), default is None, _literal(default))
        for argument, default in pairs
    }


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list)


def _fields(module: Module, node: ast.ClassDef) -> Signature:
    return {
        part.target.id: Argument(module.hint(part.annotation), part.value is None, _literal(part.value))
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and "ClassVar" not in ast.unparse(part.annotation)
    }


def _literal(node: ast.expr | None) -> Any:
    try:
        return MISSING if node is None else plain_default(ast.literal_eval(node))
    except ValueError:
        return MISSING


def described(docstring: str) -> dict[str, str]:
    """What a docstring of Google's style says of arguments and attributes, without line breaks."""
    found: dict[str, str] = {}
    name = None
    inside = False
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside, name = line in ("Args:", "Attributes:"), None
        elif inside and (match := re.match(r" {4}(\w+): (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and name and line.startswith("     "):
            found[name] += f" {line.strip()}"
    return found
