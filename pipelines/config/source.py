"""Classes and functions found in source code, without importing it: importing a model imports torch."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OWN = ("stage1_vqvae", "stage2_prior", "pipelines")
"""The packages of this project."""


@dataclass(frozen=True)
class Definition:
    """A class or function in the module that defines it."""

    module: Module
    node: ast.ClassDef | ast.FunctionDef

    def bases(self) -> list[Definition]:
        """The classes that it directly comes from, as far as their source is known."""
        nodes = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        names = (base.value if isinstance(base, ast.Subscript) else base for base in nodes)
        found = (self.module.find(base.id) for base in names if isinstance(base, ast.Name))
        return [base for base in found if isinstance(base, Definition)]

    def ancestors(self) -> Iterator[Definition]:
        """All classes that it comes from, as far as their source is known."""
        for base in self.bases():
            yield base
            yield from base.ancestors()


@dataclass(frozen=True)
class Assigned:
    """An expression that a name stands for, in the module that assigns it."""

    module: Module
    node: ast.expr


class Module:
    """A module's source: what it defines, imports and assigns.

    Args:
        name: Its dotted name.
        file: A ``.py`` or ``.pyi`` file.
    """

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self.package = name if file.stem == "__init__" else name.rpartition(".")[0]
        self.names: dict[str, ast.stmt] = {}
        self._collect(ast.parse(file.read_text(encoding="utf-8")).body)

    def _collect(self, body: Sequence[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.names |= {alias.asname or alias.name: node for alias in node.names}
            elif isinstance(node, ast.Assign):
                self.names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.If | ast.Try):  # TYPE_CHECKING, optional packages
                self._collect([*node.body, *node.orelse])

    def find(self, name: str) -> Definition | Assigned | None:
        """What a name stands for: a class or function, an assigned expression, None for what is not in known source.

        Raises:
            LookupError: If the module has no such name.
        """
        if name not in self.names:
            raise LookupError(f"{self.name} has no {name}")
        node = self.names[name]
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return Definition(self, node)
        if isinstance(node, ast.Assign):
            return Assigned(self, node.value)
        if not isinstance(node, ast.ImportFrom):
            return None
        parent = self.package.rsplit(".", node.level - 1)[0] if node.level else ""
        source = ".".join(filter(None, [parent, node.module]))
        if source.partition(".")[0] not in (*OWN, self.name.partition(".")[0]):
            return None
        original = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
        module = read_module(source)
        return None if module is None else module.find(original)

    def hint(self, annotation: ast.expr | None) -> Any:
        """A type hint as an object. What is not imported here is an empty class of its name."""
        if annotation is None:
            return Any
        try:
            return eval(ast.unparse(annotation), {"__builtins__": {}}, _Names(self))
        except (TypeError, SyntaxError):
            return Any


class _Unknown(type):
    """A class of which only the name is known: it can stand in any hint."""

    def __getattr__(cls, name: str) -> _Unknown:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unknown(name, (), {})

    def __getitem__(cls, inner: Any) -> _Unknown:
        return cls


class _Names(dict[str, Any]):
    """The names that a module's type hints may use."""

    def __init__(self, module: Module) -> None:
        super().__init__({kind.__name__: kind for kind in (str, int, float, bool, list, tuple, dict, object)})
        self.module = module

    def __missing__(self, name: str) -> Any:
        if name.startswith("__"):
            raise KeyError(name)
        node = self.module.names.get(name)
        if isinstance(node, ast.ImportFrom) and node.module in ("typing", "collections.abc"):
            return getattr(typing, name, Any)
        found = None if node is None else self.module.find(name)
        return found.module.hint(found.node) if isinstance(found, Assigned) else _Unknown(name, (), {})


@cache
def read_module(name: str) -> Module | None:
    """A module of this project or of a trusted package; None where there is none, or no source of it."""
    top, *rest = name.split(".")
    spec = find_spec(top)  # of a package at the top, which imports nothing
    if spec is None:
        return None
    locations = list(spec.submodule_search_locations or [])
    if not locations:
        origin = str(spec.origin)
        return Module(name, Path(origin)) if not rest and origin.endswith(".py") else None
    for location in locations:
        path = Path(location, *rest)
        for file in (path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py")):
            if file.is_file() and (rest or file.parent == path):
                return Module(name, file)
    return None


def find_definition(name: str) -> Definition | None:
    """The class or function of a dotted name; None where the source does not show it.

    Raises:
        LookupError: If there is no such module, or it has no such name.
    """
    module_name, _, attribute = name.rpartition(".")
    module = read_module(module_name)
    if module is None:
        raise LookupError(f"there is no module {module_name}")
    found = module.find(attribute)
    return found if isinstance(found, Definition) else None
