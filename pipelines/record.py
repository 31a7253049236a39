"""How a run was made: its command line and what it ran with, to make it once more."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from pipelines.command import Settings
from pipelines.run_folder import RunFolder
from pipelines.secrets import redact
from stage2_prior.files import write_json

PACKAGES = ("vqvae-prior", "torch", "pytorch-lightning", "hydra-core", "numpy")
"""Whose versions may change figures in their last digits."""


def write_record(run: RunFolder, settings: Settings) -> None:
    """Keep the command line of a run that is done: each of its parts was claimed by these very settings."""
    overrides = settings.get("overrides")
    if overrides is not None:
        versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
        record = {"overrides": list(overrides), "trainer": settings["trainer"], "versions": versions}
        write_json(run.path / "command.json", redact(record))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
