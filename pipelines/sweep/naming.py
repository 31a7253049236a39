"""How the keys, values and metrics of a sweep are written in its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipelines.report.formatting import number, percent, plus_minus
from pipelines.sweep.groups import Spread
from pipelines.sweep.outcomes import Row
from pipelines.sweep.records import JobRecord


def shortest(keys: Sequence[str]) -> list[str]:
    """Keys by their last part, or whole where another one ends alike."""
    last = [re.split(r"[./]", key)[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def label(values: Mapping[str, str]) -> str:
    """Keys and values in a line."""
    pairs = zip(shortest(list(values)), values.values(), strict=True)
    return ", ".join(f"{key} {value}" for key, value in pairs)


def value_of(row: Row, name: str) -> str:
    """A job's metric as people read it; empty where it has none."""
    if name not in row.metrics:
        return ""
    return (percent if is_share(name) else number)(row.metrics[name])


def spread_of(spread: Spread | None, name: str) -> str:
    """A metric's mean and standard deviation as people read them; empty where there is none."""
    if spread is None:
        return ""
    if spread.deviation is None:
        return (percent if is_share(name) else number)(spread.mean)
    if is_share(name):
        return f"{plus_minus(100 * spread.mean, 100 * spread.deviation)} %"
    return plus_minus(spread.mean, spread.deviation)


def is_share(name: str) -> bool:
    """Whether a metric is a share of 1."""
    return name.startswith("stage1.usage")


def status(record: JobRecord) -> str:
    """How a job fared, in words."""
    return f"{record.status}: {record.error}" if record.error else record.status
