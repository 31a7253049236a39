"""The files of ``conf``: its groups, their options, and what their comments say of each key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
"""Where they lie. A path, not a package: a folder ``conf`` in the current directory would be imported in its place."""

SHARED = "_"
"""First character of files that options share (``_base.yaml``) and nobody chooses."""


def groups(below: str = "") -> list[str]:
    """Every group, as an override names it: ``stage1``, ``stage1/quantizer``."""
    folders = sorted(path for path in (CONF / below).iterdir() if path.is_dir())
    names = [f"{below}/{path.name}".lstrip("/") for path in folders if path.name not in ("hydra", "__pycache__")]
    return [name for group in names for name in (group, *groups(group))]


def options(group: str) -> dict[str, str]:
    """Options of a group, each with its file's first comment."""
    found = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        if not path.name.startswith(SHARED):
            lines = path.read_text(encoding="utf-8").splitlines()
            first = next((line for line in lines if line.startswith("#") and "@package" not in line), "")
            found[path.stem] = first.lstrip("# ")
    return found


def read(name: str) -> dict[str, Any]:
    """A file of ``conf`` by its path without ``.yaml``, as it is written; empty where there is none."""
    path = CONF / f"{name}.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def comments(config_name: str, choices: Mapping[str, str]) -> dict[str, str]:
    """Comments by key, of a command's file, the chosen options and the files that these begin with."""
    found: dict[str, str] = {}
    for name in with_parents(config_name):
        found = comments_of(CONF / f"{name}.yaml", _package(name)) | found
    for place, chosen in choices.items():
        group, _, package = place.partition("@")
        if group != "experiment" and not group.startswith("hydra"):
            for name in with_parents(f"{group}/{chosen}"):
                moved = package if package and name.startswith(f"{group}/") else _package(name)
                found |= {
                    key: text for key, text in comments_of(CONF / f"{name}.yaml", moved).items() if key not in found
                }
    return found


def _package(name: str) -> str:
    return name.rpartition("/")[0].replace("/", ".")


def with_parents(name: str) -> list[str]:
    """A file and those that its defaults name without choosing an option, by their paths without ``.yaml``."""
    if not (CONF / f"{name}.yaml").is_file():  # null, or an option of a folder of the user's
        return []
    folder = name.rpartition("/")[0]
    parents = [entry for entry in read(name).get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return [name, *(file for parent in parents for file in with_parents(f"{folder}/{parent}".lstrip("/")))]


def comments_of(file: Path, prefix: str = "") -> dict[str, str]:
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
