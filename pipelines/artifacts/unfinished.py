"""A prior that still trains, or whose training was stopped, as its newest checkpoint has it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.artifacts.models import build_prior, described, read_config
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.training.checkpoint_files import load_checkpoint, newest, step_path
from stage1_vqvae.files import sha256, write_yaml
from stage2_prior.prior import Prior

STAGE = "stage2"
"""Whose checkpoints hold a whole prior."""

ATTEMPTS = 5
"""Times that a checkpoint is looked for: a training that goes on removes the older ones."""


@dataclass(frozen=True)
class Unfinished:
    """A prior in training.

    Attributes:
        prior: In eval mode.
        config: What is known of it.
        fingerprint: SHA-256 of the checkpoint, in hexadecimal.
        step: Of the checkpoint.
        averaged: Whether the weights are the average that the training keeps.
    """

    prior: Prior
    config: Mapping[str, Any]
    fingerprint: str
    step: int
    averaged: bool


def describe_training(folder: Path, kind: str, config: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Write what :func:`load_unfinished` has to know of a model beside its checkpoints.

    Args:
        folder: Of the checkpoints.
        kind, config, trust: Those of :func:`~pipelines.artifacts.models.save_model`.
    """
    write_yaml(folder / "config.yaml", described(kind, config, trust))


def find_unfinished(run: RunFolder, tokenizer: str, trust: Sequence[str]) -> Unfinished | None:
    """The prior of :func:`load_unfinished`, which is said."""
    found = load_unfinished(run, tokenizer, trust)
    if found is not None:
        weights = "averaged weights" if found.averaged else "weights"
        console.print(
            f"[yellow]![/] the prior of {run.path} still trains: its {weights} of step {found.step} are taken"
        )
    return found


def load_unfinished(run: RunFolder, tokenizer: str, trust: Sequence[str] = ()) -> Unfinished | None:
    """The prior of a run's newest checkpoint that verifies; None where there is none yet.

    Args:
        run: The run.
        tokenizer: Fingerprint of the codes of the tokenizer that will decode what it draws.
        trust: Further packages whose classes may be named.

    Raises:
        ValueError: If no checkpoint is whole, or they are of another tokenizer's codes.
    """
    folder = run.checkpoints(STAGE)
    if not (folder / "config.yaml").exists():  # no training of a whole prior has begun, or version 0.1.0 did
        return None
    config = read_config(folder, "prior")
    prior = build_prior(folder, config, tokenizer, trust)
    for attempt in range(ATTEMPTS):
        step = newest(folder).step
        if step is None:
            return None
        path = step_path(folder, step)
        try:
            checkpoint = load_checkpoint(path, type(prior))
            weights = {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items()}
            prior.load_state_dict(weights)
            return Unfinished(prior.eval(), config, sha256(path), step, averaged="averaging_state" in checkpoint)
        except (ValueError, OSError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1)
    return None
