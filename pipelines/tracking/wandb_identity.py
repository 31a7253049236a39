"""Which wandb run a stage logs to: its own from the first start to the last resume, or the one of wandb's agent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.tracking.job import Job
from stage1_vqvae.files import read_json, write_json


def run_id(job: Job) -> str:
    """The id of a stage's wandb run.

    ``WANDB_RUN_ID``, which wandb's agent sets, is for the stage that the run is judged by. Every other id is drawn at
    random and kept in the run's folder, so that a stage that resumes continues its wandb run. A folder that was moved
    keeps its ids; a copy beside its original gets new ones.
    """
    if job.primary and (given := os.environ.get("WANDB_RUN_ID")):
        return given
    path = job.folder / "logs" / "wandb_ids.json"
    ids = _ids_of(path)
    if job.stage not in ids:
        ids[job.stage] = secrets.token_hex(4)
        write_json(path, {"folder": str(job.folder.resolve()), "ids": ids})
    return ids[job.stage]


def _ids_of(path: Path) -> dict[str, str]:
    """Ids by stage that belong to this folder."""
    if not path.exists():
        return {}
    kept: dict[str, Any] = read_json(path)
    if "ids" not in kept:  # of version 0.1.0
        return kept
    folder = path.parent.parent.resolve()
    origin = Path(kept["folder"])
    copied = origin != folder and (origin / "logs" / path.name).exists()
    return {} if copied else kept["ids"]


def forget_id(folder: Path, stage: str) -> None:
    """Make the next training of a run's stage a wandb run of its own."""
    path = folder / "logs" / "wandb_ids.json"
    ids = _ids_of(path)
    if ids.pop(stage, None) is not None:
        write_json(path, {"folder": str(folder.resolve()), "ids": ids})


@contextmanager
def own_identity(job: Job) -> Iterator[None]:
    """Keep a run that begins in this block apart from that of wandb's agent, unless the job is the judged one.

    Within a sweep wandb gives every run of a process the agent's id, whatever id is asked for.
    """
    import wandb

    settings = wandb.setup().settings
    if job.primary or not settings.sweep_id:
        yield
        return
    agent = settings.sweep_id
    settings.sweep_id = None
    try:
        yield
    finally:
        settings.sweep_id = agent
