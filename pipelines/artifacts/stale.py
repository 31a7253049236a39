"""Samples, evaluations and completions of a prior that a run no longer has: they are set aside, never taken for new."""

from __future__ import annotations

from pathlib import Path

from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.distributed import collectives
from stage1_vqvae.files import read_yaml

MADE_BY_A_PRIOR = ("samples", "evaluation", "completions")
"""Folders of a run that hold what its prior made, each beside a ``settings.yaml`` that says which prior."""


def set_aside_stale(run: RunFolder, prior: str) -> None:
    """Rename the folders that hold anything of another prior, ``samples`` to ``samples-of-prior-1a2b3c4d`` say.

    Args:
        run: The run.
        prior: Fingerprint of the prior that it has now.
    """
    if collectives.rank() == 0:
        for name in MADE_BY_A_PRIOR:
            folder = run.path / name
            others = sorted(made_by(folder) - {prior})
            if others:
                aside = free_name(run.path / f"{name}-of-prior-{others[0][:8]}")
                folder.rename(aside)
                console.print(f"[yellow]![/] {folder} was made by another prior: it is {aside.name} now")
    collectives.barrier()


def product_folder(run: RunFolder, name: str, prior: str, step: int | None) -> Path:
    """The folder of a run for what its prior makes, where that of another prior is set aside.

    Args:
        run: The run.
        name: ``samples``, say.
        prior: Fingerprint of the prior.
        step: Of the checkpoint that the prior is of, if it is not finished; the folder is then ``samples-of-step-400``.
    """
    if step is not None:
        return run.path / f"{name}-of-step-{step}"
    set_aside_stale(run, prior)
    return run.path / name


def made_by(folder: Path) -> set[str]:
    """Fingerprints of the priors that made what lies in a folder."""
    plain = [read_yaml(path) for path in (*folder.glob("settings.yaml"), *folder.glob("*/settings.yaml"))]
    return {str(settings["prior"]) for settings in plain if isinstance(settings, dict) and settings.get("prior")}


def free_name(path: Path, inside: str = "") -> Path:
    """The path, or with ``-2``, ``-3``, … behind it the first that is not there yet.

    Args:
        path: The path.
        inside: A name; a folder that lacks it is free too.
    """
    number, free = 1, path
    while (free / inside).exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
