"""Jobs of a sweep share one tokenizer and its codes for each configuration of stage one."""

from __future__ import annotations

from pathlib import Path

from pipelines.artifacts.run_folder import RunFolder
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.sweep.adoption import adopt, copy_metrics, digest, held
from pipelines.sweep.pruned import noting_pruned
from pipelines.tasks.extract_codes import extract_codes
from pipelines.tasks.train_stage1 import train_stage1, training_settings
from pipelines.tracking.csv import METRICS
from pipelines.training.images import RunImages

STAGE_ONE = ("codes", "logs/pictures/stage1", "tokenizer")
"""What a job takes over; the tokenizer last: whoever has it has all."""


def share_stage1(settings: Settings, images: RunImages) -> None:
    """Put tokenizer and codes into the folder of a sweep's job, made by whichever job needed them first.

    They are made in run folders below the sweep's ``shared``, named after a digest of the settings that make them.
    One job makes them, others wait and take them over; if it is killed, the next goes on where it was. A job's files
    are hard links where the disk allows, so that its folder is complete by itself.

    Outside of a sweep, and for a job that has begun a tokenizer of its own, nothing is done.

    Args:
        settings: Of the job.
        images: Those of the settings.
    """
    run = RunFolder(Path(settings["output"]))
    sweep = settings.get("sweep")
    if not sweep or run.tokenizer.exists():
        return
    folder = Path(sweep["folder"]) / "shared"
    content = {"stage1": training_settings(settings), "hardware": settings["hardware"]}
    tokenizer = RunFolder(folder / f"tokenizer-{digest(content)}")
    codes = RunFolder(folder / f"codes-{digest({**content, 'codes': settings['codes']})}")
    lock, what = folder / f"{tokenizer.path.name}.lock", f"tokenizer of {tokenizer.path}"
    with held(lock, what), noting_pruned(tokenizer.path, settings):
        train_stage1({**settings, "output": str(tokenizer.path)}, images)
    with held(folder / f"{codes.path.name}.lock", f"codes of {codes.path}"):
        adopt_codes(tokenizer, codes)
        extract_codes({**settings, "output": str(codes.path)}, images)
    adopt_codes(codes, run)


def adopt_codes(source: RunFolder, target: RunFolder) -> None:
    """Take over what a run folder has of stage one, with its metrics."""
    if collectives.rank() == 0 and not (target.path / METRICS).exists():
        copy_metrics(source, target)
    adopt(source, target, STAGE_ONE)
