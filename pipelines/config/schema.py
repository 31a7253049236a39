"""Which keys a command has and of which type they are, beside those that its targets' signatures say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

import yaml

from pipelines.config.instantiate import fits, name_of, suggestion

KEYS: dict[str, Any] = {
    "output": str | None,
    "model": str,
    "images": str,
    "keep": str,
    "height": int | None,
    "width": int | None,
    "seed": int,
    "n": int,
    "label": int | str | list[int | str] | None,
    "batch_size": int,
    "codes.copies": int,
    "stage1.batch_size": int,
    "stage2.batch_size": int,
    "stage2.label_dropout": float,
    "stage2.level": int | None,
    "callbacks.stage1": list[dict[str, Any]],
    "callbacks.stage2": list[dict[str, Any]],
    "objective": str | list[str] | None,
    "features": Literal["own", "inception"],
    "trust": list[str],
    "debug": bool,
}
"""Types of the keys that belong to no target; those of a target are its signature's."""


def check_keys(settings: Mapping[str, Any], config_name: str) -> None:
    """Raise ValueError if there is a key that nothing reads, or a value of a wrong type.

    Args:
        settings: A command's whole configuration.
        config_name: The command's file in ``conf``.
    """
    for path, known in known_keys(config_name).items():
        node = _select(settings, path)
        for key in node if isinstance(node, Mapping) else ():
            if key not in known:
                raise ValueError(f"{path}.{key}".lstrip(".") + f": no such key;{suggestion(str(key), sorted(known))}")
    for path, hint in KEYS.items():
        parent, _, key = path.rpartition(".")
        node = _select(settings, parent)
        if isinstance(node, Mapping) and key in node and not fits(node[key], hint):
            raise ValueError(f"{path}: {name_of(hint)} expected, got {node[key]!r}")


@cache
def known_keys(config_name: str) -> dict[str, frozenset[str]]:
    """Keys of the nodes that have no target, by the node's path; the root's is empty."""
    plain = yaml.safe_load((files("conf") / f"{config_name}.yaml").read_text(encoding="utf-8"))
    groups = [name for entry in plain.pop("defaults", []) if isinstance(entry, Mapping) for name in entry]
    known = {"": frozenset([*plain, *groups])}
    known |= {key: frozenset(node) for key, node in plain.items() if isinstance(node, Mapping)}
    for group in groups:
        keys = set(_keys_of_group(group))
        if keys and "_target_" not in keys:
            known[group] = frozenset(keys)
    return known


def groups(below: str = "") -> list[str]:
    """Every group of ``conf``, as an override names it."""
    folder = files("conf") / below
    found = [f"{below}/{entry.name}".lstrip("/") for entry in folder.iterdir() if _is_group(entry)]
    return [name for group in sorted(found) for name in (group, *groups(group))]


def _is_group(entry: Traversable) -> bool:
    return entry.is_dir() and entry.name not in ("hydra", "__pycache__")


def _keys_of_group(group: str) -> Iterator[str]:
    """Top-level keys of a group's options, and the groups below it."""
    folder = files("conf") / group
    if group in ("experiment", "hydra") or not folder.is_dir():  # which set keys of others
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            yield entry.name
        elif entry.name.endswith(".yaml"):
            plain = yaml.safe_load(entry.read_text(encoding="utf-8"))
            # What `quantizer@levels.top: ema` puts below `levels` may have any name.
            groups = [name for each in plain.pop("defaults", []) if isinstance(each, Mapping) for name in each]
            packages = [str(name).partition("@")[2] for name in groups]
            yield from (package.partition(".")[0] for package in packages if package)
            yield from plain


def _select(settings: Mapping[str, Any], path: str) -> Any:
    node: Any = settings
    for key in path.split(".") if path else ():
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
