"""Which folder a job of a sweep has: jobs are known by their settings, whatever their order on the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipelines.artifacts.provenance import version_of
from pipelines.config.migrations import modernised
from pipelines.config.redaction import redact
from pipelines.sweep.records import JobRecord, read_records

WITHOUT_EFFECT = ("output", "objective", "prune", "stop_if", "logger", "wandb_mode", "trust", "debug")
"""Settings that make no other job: where results go, who is told of them, and which jobs end early."""


def digest_of_job(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that tell a job of a sweep from others, in hexadecimal.

    Args:
        settings: The whole configuration of the job, plain data; names of an earlier version count as today's.
    """
    told = {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(modernised(redact(told)), sort_keys=True).encode()).hexdigest()


def place_job(folder: Path, settings: Mapping[str, Any], overrides: Sequence[str], number: int) -> dict[str, Any]:
    """Find the place of a job in a sweep's folder, and make its record where it has none.

    A job that the folder knows, by its settings, keeps its number. A new one gets the number it has in Hydra's order,
    or, where another job has that number or a folder of that name, the next one that is free.

    Args:
        folder: Of the sweep.
        settings: The job's whole configuration, plain data.
        overrides: What the command line says for this job.
        number: Its number in Hydra's order.

    Returns:
        ``folder``, ``number`` and ``overrides`` of the job.
    """
    kept, words = redact(dict(settings)), redact(list(overrides))
    digest = digest_of_job(kept)
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "jobs" / "numbers.lock", fallback_to_soft=False):  # of all launches of the sweep
        records = read_records(folder)
        known = next((record for record in records if _is_of(record, digest, words)), None)
        if known is None:
            taken = {record.number for record in records}
            taken |= {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
            known = JobRecord(number if number not in taken else max(taken) + 1)
        version = version_of("vqvae-prior")
        replace(known, overrides=words, settings=kept, digest=digest, version=version).write(folder)
    return {"folder": str(folder), "number": known.number, "overrides": words}


def _is_of(record: JobRecord, digest: str, overrides: Sequence[str]) -> bool:
    """Whether a record is of a job. Those of 0.1.0 know only overrides; a digest is compared within a version."""
    if record.settings is None:
        return record.overrides == list(overrides)
    if record.version == version_of("vqvae-prior"):
        return record.digest == digest
    return digest_of_job(record.settings) == digest
