"""Command lines as people and programs give them, in the form that Hydra reads: ``--key=value``, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pipelines.config.overrides import key_of

FLAGS = ("cfg", "package", "config-path", "config-name", "config-dir", "experimental-rerun", "info")
"""Hydra's own flags that take a value."""


def without_hyphens(arguments: Sequence[str]) -> list[str]:
    """Arguments with ``--key=value`` as the override ``key=value``; Hydra's own flags stay.

    A flag counts as Hydra's only if it is written out: argparse would take ``--experiment=x`` for
    ``--experimental-rerun=x``.
    """
    return [_override(argument) for argument in arguments]


def _override(argument: str) -> str:
    key, equals, _ = argument.removeprefix("--").partition("=")
    own = argument.startswith("--") and equals and key not in FLAGS
    return argument.removeprefix("--") if own else argument


PATHS = ("output", "model", "tokenizer", "images", "keep", "data.files", "data.cache")
"""Keys whose value is a path."""


def as_given(arguments: Sequence[str]) -> list[str]:
    """Arguments in which paths are quoted for Hydra where it would read them as something else.

    ``output=2024`` is a folder, no number; ``model=runs/a (1)`` and ``output=größe`` have characters of Hydra's
    grammar; ``~`` is the home folder, which some shells replace only at the beginning of a word.
    """
    sweep = "-m" in arguments or "--multirun" in arguments
    return [_quoted_path(argument, sweep) for argument in arguments]


def _quoted_path(argument: str, sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in PATHS or not value or "${" in value:
        return argument
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        return f"{key}={quoted(os.path.expanduser(value))}"
    read = override.value()
    if override.is_sweep_override():
        return argument if sweep else f"{key}={quoted(value)}"
    if isinstance(read, int | float):
        return f"{key}={quoted(value)}"
    return f"{key}={quoted(os.path.expanduser(read))}" if isinstance(read, str) and read.startswith("~") else argument


HYDRAS_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir")
"""Keys by which Hydra moves what a job writes, or the job itself."""


def refuse_hydras_folders(arguments: Sequence[str]) -> None:
    """Raise ValueError if Hydra is to choose folders: a sweep's table and its jobs lie below ``output`` alone."""
    for argument in arguments:
        key = key_of(argument)
        if key in HYDRAS_FOLDERS:
            raise ValueError(f"{key}: a command and a sweep write below output alone: give output=FOLDER in its place")


def quoted(value: str) -> str:
    """A value in quotes that Hydra's grammar takes off again."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
