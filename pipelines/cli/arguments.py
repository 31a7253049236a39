"""Command lines as people and programs give them, in the form that Hydra reads: ``--key=value``, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pipelines.config.conf import groups, options
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


def refuse_unknown_flags(arguments: Sequence[str]) -> None:
    """Raise ValueError for what argparse would answer with its usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"{message}; a setting is key=value, and --hydra-help lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(list(arguments))


NO_NAME = re.compile(r"null|true|false|[-+\d._e]+", re.IGNORECASE)
"""A value that Hydra does not read as a name."""


def refuse_nameless_options(arguments: Sequence[str]) -> None:
    """Raise ValueError where a group is to be no option's name, which Hydra refuses without naming the group."""
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if NO_NAME.fullmatch(value) and key.partition("@")[0] in groups():
            raise ValueError(f"{argument}: an option's name expected: {', '.join(options(key.partition('@')[0]))}")


PATHS = ("output", "model", "tokenizer", "init", "images", "keep", "data.files", "data.labels", "data.cache")
"""Keys whose value is a path."""

TEXTS = (*PATHS, "stop_if")
"""Keys whose value is a text, whatever Hydra's grammar makes of it."""


def as_given(arguments: Sequence[str]) -> list[str]:
    """Arguments in which texts are quoted for Hydra where it would read them as something else.

    ``output=2024`` is a folder, no number; ``model=runs/a (1)``, ``output=größe`` and ``stop_if=stage2.nats > 3`` have
    characters of Hydra's grammar; ``~`` is the home folder, which some shells replace only at the beginning of a word.
    """
    sweep = "-m" in arguments or "--multirun" in arguments
    return [_quoted_text(argument, sweep) for argument in arguments]


def _quoted_text(argument: str, sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in TEXTS or not value or "${" in value:
        return argument
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        paths = value.split(",") if sweep else [value]
        return f"{key}={','.join(quoted(os.path.expanduser(path)) for path in paths)}"
    read = override.value()
    if override.is_sweep_override():
        return _quoted_numbers(argument, override) if sweep else f"{key}={quoted(value)}"
    if isinstance(read, int | float):
        return f"{key}={quoted(value)}"
    return f"{key}={quoted(os.path.expanduser(read))}" if isinstance(read, str) and read.startswith("~") else argument


def _quoted_numbers(argument: str, override: Override) -> str:
    """A sweep over paths, of which some are numbers: as text they are what a sweep's own folders are called."""
    if not override.is_discrete_sweep():
        return argument
    elements = list(override.sweep_string_iterator())
    numbers = [NO_NAME.fullmatch(element) and element != "null" for element in elements]
    if not any(numbers):
        return argument
    found = (quoted(one) if number else one for one, number in zip(elements, numbers, strict=True))
    return f"{argument.partition('=')[0]}={','.join(found)}"


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
