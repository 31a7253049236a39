"""How a run, or a part of its prior, was made: the command line and what it ran with, to make it once more."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipelines.config.redaction import redact
from stage1_vqvae.files import write_json

PACKAGES = ("vqvae-prior", "torch", "pytorch-lightning", "hydra-core", "numpy")
"""Whose versions may change metrics in their last digits."""

RECORD = "command.json"
"""Its file, in the folder of what was made."""


def write_record(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep the command line of what is done: all that the folder holds was claimed by these very settings."""
    overrides = settings.get("overrides")
    if overrides is not None:
        versions = {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES}
        record = {"overrides": list(overrides), "hardware": settings["hardware"], "versions": versions}
        write_json(folder / RECORD, redact(record))


def version_of(package: str) -> str:
    """Version of an installed package; "unknown" of one that is not."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
