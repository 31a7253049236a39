"""``python -m pipelines.run --info``: what can be set, from the configuration's comments and targets' signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from pipelines.config.instantiate import find, hints_of, name_of
from pipelines.config.schema import KEYS

TARGETS = {
    "stage1.trainer": "pipelines.training.StageTrainer",
    "stage2.trainer": "pipelines.training.StageTrainer",
    "sampling": "stage2_prior.sampling.SamplingSettings",
}
"""Nodes that say no target, since it is always the same."""

HYDRAS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra itself tells with ``--info``."""


@dataclass(frozen=True)
class Key:
    """A key that can be set.

    Attributes:
        path: As the command line names it.
        value: What it is unless it is set.
        kind: Its type, in words.
        meaning: What it does, in a sentence.
    """

    path: str
    value: str
    kind: str
    meaning: str


def asked_for_info(arguments: Sequence[str]) -> bool:
    """Whether a command line asks what can be set."""
    if "--info" not in arguments:
        return False
    after = arguments[arguments.index("--info") + 1 :]
    return not (after and after[0] in HYDRAS)


def show_info(config_name: str, arguments: Sequence[str]) -> None:
    """Print groups, options and keys of a command.

    Args:
        config_name: The command's file in ``conf``.
        arguments: Its command line; overrides are composed first, another word shows only the keys that begin so.
    """
    words = [word for word in arguments if not word.startswith("-")]
    overrides = [word for word in words if "=" in word]
    wanted = [word for word in words if "=" not in word]
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(config_name, overrides, return_hydra_config=True)
    choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
    plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    console = Console(highlight=False)
    if not wanted:
        console.print("[bold]Choices[/], group=option:")
        for group in (group for group in choices if not group.startswith("hydra")):
            _show_group(console, group, choices.get(group))
    keys = [key for key in keys_of(plain, comments(config_name, choices)) if _wanted(key.path, wanted)]
    console.print(f"\n[bold]Keys[/] of {' '.join(['this choice', *overrides])}, key=value:" if keys else "no such key")
    for key in keys:
        console.print(f"[cyan]{key.path}[/] = {key.value}" + (f"  [dim]{_plain(key.kind)}[/]" if key.kind else ""))
        if key.meaning:
            console.print(Padding(_plain(key.meaning), (0, 0, 0, 4)))


def _readable(text: str) -> str:
    """A docstring's words without its markup."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _wanted(path: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(f"{path}.".startswith(f"{word}.") for word in wanted)


def _show_group(console: Console, group: str, chosen: str | None) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for option, text in options(group).items():
        table.add_row("  *" if option == chosen else "   ", f"[cyan]{group}={option}[/]", _plain(text))
    if table.row_count:
        console.print(table)


def options(group: str) -> dict[str, str]:
    """Options of a group of ``conf``, each with its file's first comment; a file ``_base`` is what options share."""
    folder = files("conf") / group
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else ():
        if entry.name.endswith(".yaml") and not entry.name.startswith("_"):
            lines = entry.read_text(encoding="utf-8").splitlines()
            first = next((line for line in lines if line.startswith("#") and "@package" not in line), "")
            found[entry.name.removesuffix(".yaml")] = first.lstrip("# ")
    return found


def comments(config_name: str, choices: Mapping[str, str]) -> dict[str, str]:
    """Comments by key, of a command's file and of the chosen options."""
    conf = files("conf")
    found = comments_of(conf / f"{config_name}.yaml")
    for group, chosen in choices.items():
        if group == "experiment" or group.startswith("hydra"):
            continue
        for name in _with_parents(group, chosen):
            for key, text in comments_of(conf / group / f"{name}.yaml", group.replace("/", ".")).items():
                found.setdefault(key, text)
    return found


def _with_parents(group: str, option: str) -> list[str]:
    """An option, and those of its group that its defaults begin with."""
    file = files("conf") / group / f"{option}.yaml"
    if not file.is_file():  # null, or an option of a folder of the user's
        return []
    plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    parents = [name for name in plain.get("defaults", []) if isinstance(name, str) and name != "_self_"]
    return [option, *(name for parent in parents for name in _with_parents(group, parent))]


def comments_of(file: Traversable, prefix: str = "") -> dict[str, str]:
    """Comments of a YAML file by key: at the key's end, or in the lines above it."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    header = True  # the comment at the top is of the file
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)([\w-]+):(?:\s|$)(?:.*?\s#\s*(.*))?", line)
        if match is None:
            above = [*above, line.strip("# ")] if line.lstrip().startswith("#") else []
            continue
        indent = len(match[1])
        parents = [(depth, key) for depth, key in parents if depth < indent] + [(indent, match[2])]
        text = match[3] or (" ".join(above) if not header else "")
        if text:
            found[".".join(filter(None, [prefix, *(key for _, key in parents)]))] = text
        above, header = [], False
    return found


def keys_of(node: Mapping[str, Any], texts: Mapping[str, str], path: str = "") -> Iterator[Key]:
    """Every key below a node, with what is known of it."""
    hints, meanings = _signature(node.get("_target_", TARGETS.get(path)))
    for name, value in node.items():
        full = f"{path}.{name}".lstrip(".")
        meaning = texts.get(full) or meanings.get(name, "")
        if isinstance(value, Mapping) and value:
            yield from keys_of(value, texts, full)
        elif name == "_target_":
            yield Key(full, str(value), "", "the class; one of yours with trust=[its package]")
        else:
            hint = hints.get(name, KEYS.get(full))
            kind = "" if hint is None else name_of(hint)
            yield Key(full, "null" if value is None else str(value), kind, _readable(meaning))


def _signature(target: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Type hints and meanings of a target's arguments; none of one that is not of this project."""
    if not isinstance(target, str):
        return {}, {}
    try:
        made = find(target, "")
    except ValueError:
        return {}, {}
    hints = hints_of(made)
    documented = reversed(made.__mro__) if inspect.isclass(made) else [made]  # a class says what its base does not
    meanings: dict[str, str] = {}
    for part in documented:
        meanings |= described(inspect.cleandoc(part.__doc__ or ""))
    return hints, meanings


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
