"""What a training logged that is no longer there: it is set aside, and never taken for its successor's."""

from __future__ import annotations

from pathlib import Path

from pipelines.artifacts.run_folder import RunFolder
from pipelines.artifacts.stale import free_name
from pipelines.distributed import collectives
from pipelines.tracking.csv import METRICS
from pipelines.tracking.wandb_identity import forget_id
from stage1_vqvae.files import replacing


def set_aside_logs(run: RunFolder, stage: str) -> None:
    """Move the metrics, pictures and event files of a stage into ``logs/earlier/STAGE``; its wandb run will be new.

    Args:
        run: The run.
        stage: Whose training begins, ``stage1`` say.
    """
    if collectives.rank() == 0:
        logs = run.path / METRICS.parent
        aside = free_name(logs / "earlier" / stage)
        move_lines(run.path / METRICS, f"{stage},", aside / METRICS.name)
        for folder in (run.pictures(stage), logs / "tensorboard" / stage):
            if folder.exists():
                aside.mkdir(parents=True, exist_ok=True)
                folder.rename(aside / folder.parent.name)
        forget_id(run.path, stage)
    collectives.barrier()


def move_lines(source: Path, start: str, target: Path) -> None:
    """Move the lines of a table that begin so into a file of their own, with the table's head."""
    if not source.exists():
        return
    head, *lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    moved = [line for line in lines if line.startswith(start)]
    for path, kept in ((target, moved), (source, [line for line in lines if not line.startswith(start)])):
        if moved:
            with replacing(path) as temporary:
                temporary.write_text("".join([head, *kept]), encoding="utf-8")
