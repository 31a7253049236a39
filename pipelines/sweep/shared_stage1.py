"""Jobs of a sweep share what they have in common: one tokenizer and its codes for each configuration of stage one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pipelines.artifacts.levels import join_levels
from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.distributed.locks import try_lock
from pipelines.tasks.extract_codes import extract_codes
from pipelines.tasks.train_stage1 import train_stage1, training_settings
from pipelines.tasks.train_stage2 import prior_sources
from pipelines.training.images import RunImages
from stage1_vqvae.files import TEMPORARY
from stage2_prior.code_store.manifest import digest_of

PAUSE = 0.5
"""Seconds between two looks at a lock that another job holds."""

METRICS = Path("logs") / "metrics.csv"
STAGE_ONE = ("codes", "logs/pictures/stage1", "tokenizer")
"""What a job takes over; the tokenizer last: whoever has it has all."""


def share(settings: Settings, images: RunImages) -> None:
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
    with held(folder / f"{tokenizer.path.name}.lock", f"tokenizer of {tokenizer.path}"):
        train_stage1({**settings, "output": str(tokenizer.path)}, images)
    with held(folder / f"{codes.path.name}.lock", f"codes of {codes.path}"):
        adopt_codes(tokenizer, codes)
        extract_codes({**settings, "output": str(codes.path)}, images)
    adopt_codes(codes, run)


def exchange_levels(settings: Settings) -> None:
    """Give the part of a prior that this job of a sweep trained to the others, and take over theirs.

    Jobs that differ in ``stage2.level`` alone train parts of one prior; whichever ends last has them all. Outside of a
    sweep nothing is done.
    """
    run = RunFolder(Path(settings["output"]))
    level, sweep = settings["stage2"].get("level"), settings.get("sweep")
    if not sweep or level is None:
        return
    sources = prior_sources(settings, fingerprint(run.tokenizer))
    shared = RunFolder(Path(sweep["folder"]) / "shared" / f"prior-{digest(sources)}")
    adopt(run, shared, [f"prior/levels/{level}"])
    adopt(shared, run, [f"prior/levels/{path.name}" for path in sorted((shared.prior / "levels").iterdir())])
    join_levels(run, settings["trust"])


def digest(plain: dict[str, Any]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of plain data."""
    return digest_of(plain)[:12]


def adopt_codes(source: RunFolder, target: RunFolder) -> None:
    """Take over what a run folder has of stage one, with its metrics."""
    if collectives.rank() == 0 and (source.path / METRICS).exists() and not (target.path / METRICS).exists():
        (target.path / METRICS).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / METRICS, target.path / METRICS)  # no link: a job appends to its own
    adopt(source, target, STAGE_ONE)


def adopt(source: RunFolder, target: RunFolder, parts: Sequence[str]) -> None:
    """Take over parts of a run folder, each whole or not at all; what is there stays."""
    if collectives.rank() == 0:
        for part in parts:
            if (source.path / part).exists() and not (target.path / part).exists():
                link_tree(source.path / part, target.path / part)
    collectives.barrier()


def link_tree(source: Path, target: Path) -> None:
    """Another folder of the same files, hard links where the disk allows: files are replaced, never changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a job that was killed here
    shutil.copytree(source, temporary, copy_function=_link, ignore=shutil.ignore_patterns(f"{TEMPORARY}*"))
    temporary.rename(target)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
    return target


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for all processes of this command, once every other job has given it back.

    Args:
        path: The lock's file; it stays.
        what: What the other job is making, for the message.
    """
    waited = False
    while True:
        with try_lock(path) if collectives.rank() == 0 else nullcontext(False) as mine:
            # Asked again and again rather than waited for: a collective that waits for hours would time out.
            if collectives.on_any(mine):
                yield
                collectives.barrier()
                return
        if not waited:
            console.print(f"waiting for another job of the sweep: {what}")
            waited = True
        time.sleep(PAUSE)
