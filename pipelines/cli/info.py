"""``python -m pipelines.run --info``: what can be set, from the configuration's comments and targets' signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from pipelines.config.conf import CONF, comments, groups, options
from pipelines.config.hydra_versions import VERSION_BASE
from pipelines.config.schema import SAMPLING, keys_of_command
from pipelines.config.signatures import Argument, Signature, read_signature
from pipelines.config.types import name_of


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


def show_info(config_name: str, arguments: Sequence[str]) -> None:
    """Print groups, options and keys of a command.

    Args:
        config_name: The command's file in ``conf``.
        arguments: Its command line; overrides are composed first, another word shows only the keys that begin so.
    """
    words = [word for word in arguments if not word.startswith("-")]
    overrides = [word for word in words if "=" in word]
    wanted = [word for word in words if "=" not in word]
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose(config_name, overrides, return_hydra_config=True)
    choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
    plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    console = Console(highlight=False)
    if not wanted:
        console.print("[bold]Choices[/], group=option:")
        inner = [group for group in groups() if group not in choices and group.rpartition("/")[0] in choices]
        for group in (group for group in (*choices, *inner) if not group.startswith("hydra")):
            _show_group(console, group, choices.get(group))
    keys = [key for key in keys_of(plain, config_name, comments(config_name, choices)) if _wanted(key.path, wanted)]
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


def keys_of(settings: Mapping[str, Any], config_name: str, texts: Mapping[str, str]) -> Iterator[Key]:
    """Every key of a command's configuration, with what is known of it.

    Args:
        settings: The configuration as plain data, interpolations as they are written.
        config_name: The command's file in ``conf``.
        texts: Comments by key.
    """
    return _keys_below(settings, "", texts, keys_of_command(config_name))


def _keys_below(
    node: Mapping[str, Any], path: str, texts: Mapping[str, str], known: Mapping[str, Signature]
) -> Iterator[Key]:
    target = node.get("_target_", SAMPLING if path == "sampling" else None)
    arguments = known.get(path, {}) if target is None else _signature(target)
    for name, value in node.items():
        full = f"{path}.{name}".lstrip(".")
        if isinstance(value, Mapping) and value:
            yield from _keys_below(value, full, texts, known)
        elif name == "_target_":
            yield Key(full, str(value), "", "the class; one of yours with trust=[its package]")
        else:
            argument = arguments.get(name, Argument())
            kind = "" if argument.hint is Any else name_of(argument.hint)
            meaning = texts.get(full) or argument.meaning
            yield Key(full, "null" if value is None else str(value), kind, _readable(meaning))


def _signature(target: Any) -> Signature:
    """What a target takes; nothing of one whose source is not known."""
    try:
        return read_signature(str(target)) or {}
    except (LookupError, SyntaxError):
        return {}
