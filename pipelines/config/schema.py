"""The keys of the commands: those of each class below, and for a node with a ``_target_`` those that the target takes.

Checked from source alone: nothing that a configuration names is imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.config.instantiate import OWN, check_arguments, check_package
from pipelines.config.settings import Settings
from pipelines.config.signatures import Argument, Signature, hints_of, read_signature

Node = dict[str, Any]
"""A mapping with ``_target_``, or one of such mappings."""

Label = int | str | list[int | str] | None
"""A class by number or name, several, or null."""

RECIPE = "recipe"
"""Value of a sampling setting that leaves it to the recipe which trained the prior."""

SAMPLING = "stage2_prior.sampling.SamplingSettings"
"""What ``sampling`` describes; it is written without ``_target_``, since its settings may be left to the recipe."""

GIVEN = {"stage2.model": ("layout", "num_classes")}
"""Arguments that a target gets from the work before it, by the target's place."""


@dataclass(frozen=True)
class Command:
    """Keys of every command."""

    hardware: Node
    trust: list[str]
    debug: bool


@dataclass(frozen=True)
class FromRecipe(Command):
    """Keys of the commands that sample as a prior's recipe says; each sampling setting also has a key of its name."""

    sampling: Node


@dataclass(frozen=True)
class Codes:
    """Keys of ``codes``."""

    copies: int


@dataclass(frozen=True)
class Stage1:
    """Keys of ``stage1``."""

    model: Node
    objective: Node
    optimization: Node
    trainer: Node
    batch_size: int
    likelihood: Node | None = None
    quantizer: Node | None = None
    levels: Node | None = None


@dataclass(frozen=True)
class Stage2:
    """Keys of ``stage2``."""

    model: Node
    optimization: Node
    trainer: Node
    batch_size: int
    label_dropout: float
    level: int | None = None


@dataclass(frozen=True)
class Callbacks:
    """Keys of ``callbacks``."""

    stage1: list[Node]
    stage2: list[Node]


@dataclass(frozen=True)
class Training(Command):
    """Keys of ``run``, ``train_stage1``, ``extract_codes`` and ``train_stage2``."""

    output: str
    seed: int
    batch_size: int
    data: Node
    codes: Codes
    stage1: Stage1
    stage2: Stage2
    n: int
    label: Label
    sampling: Node
    callbacks: Callbacks
    objective: str | list[str] | None
    logger: Node
    wandb_mode: str


@dataclass(frozen=True)
class Sampling(FromRecipe):
    """Keys of ``sample``."""

    model: str
    output: str | None
    n: int
    label: Label
    seed: int
    batch_size: int
    height: int | None
    width: int | None


@dataclass(frozen=True)
class Completion(FromRecipe):
    """Keys of ``complete``."""

    model: str
    output: str | None
    images: str
    keep: str
    box: list[int] | None
    n: int
    label: Label
    seed: int
    candidates: int


@dataclass(frozen=True)
class Reconstruction(Command):
    """Keys of ``reconstruct``."""

    model: str
    output: str
    data: Node
    n: int
    batch_size: int


@dataclass(frozen=True)
class Evaluation(FromRecipe):
    """Keys of ``evaluate``."""

    model: str
    output: str | None
    n: int
    label: Label
    seed: int
    batch_size: int
    features: Literal["own", "inception"]
    network: Node
    data: Node | None = None


@dataclass(frozen=True)
class Collapse(Command):
    """Keys of ``collapse``."""

    output: str
    seed: int
    batch_size: int
    data: Node
    bottleneck: Node
    autoencoder: Node
    optimization: Node
    trainer: Node


COMMANDS: dict[str, type[Command]] = {
    "config": Training,
    "sample": Sampling,
    "complete": Completion,
    "reconstruct": Reconstruction,
    "evaluate": Evaluation,
    "collapse": Collapse,
}
"""Keys by the command's file in ``conf``."""


def check_settings(settings: Settings, config_name: str) -> None:
    """Raise ValueError if there is a key that nothing reads, a value of a wrong type, or one that is missing.

    Args:
        settings: A command's whole configuration.
        config_name: The command's file in ``conf``.
    """
    for path, keys in keys_of_command(config_name).items():
        check_arguments(keys, _at(settings, path), path)
    if "sampling" in settings:
        asked = {key: value for key, value in settings["sampling"].items() if value != RECIPE}
        own_keys = issubclass(COMMANDS[config_name], FromRecipe)
        check_target(SAMPLING, asked, "" if own_keys else "sampling", settings["trust"])
    for path, node in _targets(settings, ""):
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        check_target(node["_target_"], arguments, path, settings["trust"])


def keys_of_command(config_name: str) -> dict[str, Signature]:
    """What the nodes without a target take, by path, outer ones first; the root's path is empty."""
    return dict(_known(COMMANDS[config_name], ""))


def _known(keys: type, path: str) -> Iterator[tuple[str, Signature]]:
    hints = hints_of(keys)
    nested = {name for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    signature = {
        field.name: Argument(Node if field.name in nested else hints[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(keys)
    }
    if issubclass(keys, FromRecipe):
        signature |= {name: Argument(required=False) for name in read_signature(SAMPLING) or ()}
    yield path, signature
    for name in nested:
        yield from _known(hints[name], f"{path}.{name}".lstrip("."))


def _at(settings: Settings, path: str) -> Any:
    """The node at a path; the settings themselves at the empty one."""
    node: Any = settings
    for key in path.split(".") if path else ():
        node = node[key]
    return node


def check_target(name: Any, arguments: Mapping[str, Any], path: str, trust: Sequence[str]) -> None:
    """Raise ValueError unless a ``_target_`` may be named, exists and takes these arguments, as far as its source says.

    Args:
        name: Its dotted name.
        arguments: By name; nodes within are not looked at.
        path: Where it stands in the configuration.
        trust: Further packages whose classes may be named.
    """
    if not isinstance(name, str):
        raise ValueError(f"{path}._target_: the dotted name of a class expected, got {name!r}")
    check_package(name, path, trust)
    try:
        signature = read_signature(name)
    except (LookupError, SyntaxError) as error:
        if name.partition(".")[0] in OWN:
            raise ValueError(f"{path}._target_: there is no {name!r} ({error})") from error
        return  # a trusted package may make its names as it is imported
    if signature is not None:
        check_arguments(signature, arguments, path, GIVEN.get(path, ()))


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with ``_target_`` at or below a node, with its path."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]")
