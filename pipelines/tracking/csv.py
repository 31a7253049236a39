"""``logs/metrics.csv``: the metrics of a run in one file of plain text."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from pipelines.tracking.base import metrics_of_interest
from pipelines.tracking.job import Job

METRICS = Path("logs") / "metrics.csv"
"""The file, in a run's folder."""

COLUMNS = ("stage", "step", "metric", "value")


class MetricsFile(Logger):
    """Appends a line to ``logs/metrics.csv`` for each metric of a step.

    A stage that resumes after a kill may log some steps a second time; :func:`read_metrics` takes the later line.

    Args:
        job: The stage whose metrics are logged.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.stage = job.stage
        self.path = job.folder / METRICS

    @property
    def name(self) -> str:
        """The stage."""
        return self.stage

    @property
    def version(self) -> str:
        """Empty: a run has one metrics file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the configuration is saved beside the models."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append the metrics of a step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerows(
                (self.stage, step, name, repr(value)) for name, value in metrics_of_interest(metrics).items()
            )


def read_metrics(folder: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Metrics of a run by stage, metric and step; empty where nothing was logged."""
    metrics: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    path = folder / METRICS
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["value"]:  # a line cut short by a kill has none
                    metrics[row["stage"]][row["metric"]][int(row["step"])] = float(row["value"])
    return metrics


@dataclass(frozen=True)
class Csv:
    """Tracks by ``logs/metrics.csv`` alone."""

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Give Lightning's loggers for the duration of a job."""
        yield [MetricsFile(job)]
