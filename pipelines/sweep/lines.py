"""The two lines of a job on the screen: when it begins, and when it has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.config.overrides import key_of
from pipelines.sweep.launch import Launch
from pipelines.sweep.records import JobRecord, read_records

NOTHING = 1.0
"""Seconds in which a job did nothing: all of it was there."""


def first_line(sweep: Mapping[str, Any]) -> str:
    """What a job's beginning says of it: its number and what is swept over.

    Args:
        sweep: What :func:`pipelines.sweep.places.place_job` gave.
    """
    keys = Launch.current().keys
    told = [word for word in sweep["overrides"] if key_of(word) in keys]
    return f"job {sweep['number']}: {' '.join(told)}".rstrip(": ")


def last_line(sweep: Mapping[str, Any], how: str, value: Any, seconds: float) -> str:
    """What the end of a job that did not fail says: the objective, how long it took, and the time that is left.

    Args:
        sweep: What :func:`pipelines.sweep.places.place_job` gave.
        how: How it ended.
        value: Of the objective, one or several; None where there is none.
        seconds: How long it took.
    """
    from stage1_vqvae.progress import clock  # imports rich

    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    named = ", ".join(f"{one:.5g}" for one in values)
    left = time_left(read_records(Path(sweep["folder"])), Launch.current(), time.time())
    return ", ".join(filter(None, (f"job {sweep['number']}: {how}", named, clock(seconds), left)))


def time_left(records: Sequence[JobRecord], launch: Launch, now: float) -> str:
    """How many jobs of a launch are left, and about how long they take; empty where that is not known.

    Jobs that ended at once, since all was there, say nothing of the others.

    Args:
        records: Of all jobs of the sweep.
        launch: The launch.
        now: In seconds since 1970.
    """
    from stage1_vqvae.progress import clock

    ended = [seconds for record in records for seconds in record.passes.get(launch.name, [])]
    left = launch.jobs - len(ended)
    if left <= 0 or not launch.name:
        return ""
    worked = sum(seconds > NOTHING for seconds in ended)
    rest = f", about {clock((now - launch.start) / worked * left)}" if worked else ""
    return f"{left} {'job' if left == 1 else 'jobs'} left{rest}"
