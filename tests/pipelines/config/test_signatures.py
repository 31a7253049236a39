"""Signatures that are read from source say what Python says of the class itself."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.conf import CONF, read
from pipelines.config.schema import SAMPLING
from pipelines.config.signatures import MISSING, described, read_signature, signature_of
from pipelines.config.types import name_of

ROOT = Path(__file__).parents[3]


def public_classes():
    """Dotted names of all classes and functions that packages list."""
    for stub in sorted(ROOT.glob("[ps]*/**/__init__.pyi")):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        for node in ast.parse(stub.read_text()).body:
            yield from (f"{package}.{alias.name}" for alias in getattr(node, "names", ()))


def targets(node, path=""):
    """Every node with a target in a file of ``conf``."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".lstrip("."))


def words(hint):
    """A type in words, classes without their modules."""
    text = re.sub(r"\b[a-z_0-9]+\.|<class |>|'", "", name_of(hint)).replace("NoneType", "None")
    return re.sub(r"ndarray\[.*?\]\]", "NDArray", text)


@pytest.mark.parametrize("name", sorted(set(public_classes())))
def test_source_and_class_say_the_same(name):
    module, _, attribute = name.rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    if not callable(target):
        pytest.skip("a value")
    found, real = read_signature(name), signature_of(target)
    if found is None or real is None:
        takes_any = real is None or list(inspect.signature(target).parameters) == ["args", "kwargs"]
        assert takes_any or "__init__" not in vars(target)  # one whose base is another package's
        return
    assert list(found) == list(real)
    for key, argument in real.items():
        assert found[key].required == argument.required, key
        assert found[key].default == argument.default, key
        assert words(found[key].hint) == words(argument.hint), key


FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml"))
RECIPES = (
    "pipelines.training.Optimization",
    "pipelines.training.StageTrainer",
    "pipelines.distributed.Hardware",
    "stage1_vqvae.networks.BlockStyle",
)
"""Classes of which every stage, or every option, has settings of its own."""


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("experiment/", "hydra/"))])
def test_a_default_of_the_configuration_is_that_of_the_class(name):
    nodes = [*targets(read(name))]
    if name == "config":
        nodes.append(("sampling", {"_target_": SAMPLING, **read(name)["sampling"]}))
    for path, node in nodes:
        if node["_target_"] in RECIPES:
            continue
        signature = read_signature(node["_target_"])
        for key, value in node.items():
            default = signature[key].default if key in signature and "${" not in str(value) else MISSING
            assert default is MISSING or default == value, f"{path}.{key}"


def test_docstrings_say_what_arguments_mean():
    text = "Sum.\n\nArgs:\n    a: First,\n        and more.\n    b: Second.\n\nRaises:\n    ValueError: If."
    assert described(text) == {"a": "First, and more.", "b": "Second."}


SOURCE = '''
from __future__ import annotations
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from elsewhere import Thing, Unknown

Kind = Literal["a", "b"]

@dataclass
class Base:
    """A base.

    Args:
        first: The first.
    """
    first: int
    unseen: ClassVar[int] = 3

@dataclass(frozen=True)
class Child(Base):
    kind: Kind = "a"
    thing: Thing | None = None
    pair: tuple[float, float] = (1.0, 2.0)
    made: Sequence[int] = field(default_factory=list)

class Plain(Child): ...

class Own(Unknown):
    def __init__(self, size: int, *, flag: bool = False) -> None: ...

class Foreign(Thing): ...

def anything(**options): ...
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The source above as a package of a user's, which cannot be imported."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from .things import Child as Renamed\nraise RuntimeError\n")
    (tmp_path / "mine" / "things.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()


def said(name):
    signature = read_signature(name)
    return signature and {key: (name_of(found.hint), found.required, found.default) for key, found in signature.items()}


def test_dataclasses_classes_and_functions_are_read(module):
    child = {
        "first": ("int", True, MISSING),
        "kind": ("a or b", False, "a"),
        "thing": ("Thing or null", False, None),
        "pair": ("list of float", False, [1.0, 2.0]),
        "made": ("list of int", False, MISSING),
    }
    assert said("mine.things.Child") == said("mine.things.Plain") == said("mine.Renamed") == child
    assert read_signature("mine.things.Child")["first"].meaning == "The first."
    assert said("mine.things.Own") == {"size": ("int", True, MISSING), "flag": ("bool", False, False)}


def test_what_the_source_does_not_say_is_not_guessed(module):
    assert read_signature("mine.things.Foreign") is None
    assert read_signature("mine.things.anything") is None
    assert read_signature("mine.things.Thing") is None


@pytest.mark.parametrize("name", ["mine.things.Nope", "mine.nope.Child", "nowhere_at_all.Child"])
def test_what_does_not_exist_is_an_error(name, module):
    with pytest.raises(LookupError):
        read_signature(name)


FOR_CHECKERS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from elsewhere import Thing

class Attributes:
    thing: Thing

@dataclass
class Fields(Attributes):
    size: int
    other: Thing | None = None

class Own(Attributes):
    def __init__(self, size: int, other: Thing | None = None) -> None: ...

def function(size: int, other: Thing | None = None) -> Thing: ...
"""


@pytest.mark.parametrize("name", ["Fields", "Own", "function"])
def test_a_name_that_only_checkers_import_is_any_type(name, tmp_path, monkeypatch):
    (tmp_path / "for_checkers.py").write_text(FOR_CHECKERS)
    monkeypatch.syspath_prepend(tmp_path)
    found = signature_of(getattr(importlib.import_module("for_checkers"), name))
    assert {key: (argument.hint, argument.default) for key, argument in found.items()} == {
        "size": (int, MISSING),
        "other": (Any, None),
    }
