"""Command lines in the form that wandb's agent and many shells' users give them: ``--key=value``."""

from __future__ import annotations

from collections.abc import Sequence

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
