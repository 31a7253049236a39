"""Where figures and pictures of a run go: a metrics file always, a board (wandb, TensorBoard) beside it if wanted."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from pipelines.config.redaction import redact

COLUMNS = ("stage", "step", "metric", "value")


@dataclass(frozen=True)
class Job:
    """One stage of one run, as trackers know it.

    Attributes:
        folder: The run's folder.
        stage: ``stage1``, ``extract``, ``stage2`` or ``sample``; ``stage2.0`` for a part of a prior, of grid 0.
        group: What the runs of one pipeline or sweep share.
        config: The whole resolved configuration, plain data without secrets.
    """

    folder: Path
    stage: str
    group: str
    config: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The stage without the number of a part."""
        return self.stage.partition(".")[0]

    @classmethod
    def of(cls, folder: Path, stage: str, settings: Mapping[str, Any]) -> Job:
        """A stage of a command; the runs of a sweep share its folder's name, those of a pipeline its own."""
        sweep = settings.get("sweep")
        return cls(folder, stage, Path(sweep["folder"]).name if sweep else folder.name, redact(settings))


@dataclass(frozen=True)
class Artifact:
    """Something a run made, as lineage knows it.

    Attributes:
        kind: ``tokenizer``, ``codes``, ``prior`` or ``samples``.
        fingerprint: SHA-256 of its content, the one that the files carry.
        files: What is sent of it.
        metadata: What is said of it.
    """

    kind: str
    fingerprint: str
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """A configured way of tracking."""

    def track(self, job: Job) -> Any:
        """A context manager that gives Lightning's loggers for a job, and ends them."""
        ...


class StageLogger(Logger):
    """What all loggers of a stage have in common."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    @property
    def name(self) -> str:
        """The stage."""
        return self.stage

    @property
    def version(self) -> str:
        """None but the run's folder."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration lies beside the models."""


class MetricsFile(StageLogger):
    """``logs/metrics.csv`` of a run: one line per figure, only ever appended to.

    A stage that goes on after a kill writes some steps again; the later line counts (see :func:`read_metrics`).
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job.stage)
        self.path = job.folder / "logs" / "metrics.csv"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append the figures of one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            # The trainer's own epoch is the whole training here: no figure of interest.
            writer.writerows((self.stage, step, name, repr(float(v))) for name, v in metrics.items() if name != "epoch")


def read_metrics(folder: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Figures of a run by stage, metric and step; empty where nothing was logged."""
    figures: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    path = folder / "logs" / "metrics.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["value"]:  # a line cut short by a kill has none
                    figures[row["stage"]][row["metric"]][int(row["step"])] = float(row["value"])
    return figures


@dataclass(frozen=True)
class Csv:
    """The metrics file alone."""

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Lightning's loggers for the duration of a job."""
        yield [MetricsFile(job)]


def warn(message: str) -> None:
    """Say that tracking lost something, without stopping what is tracked."""
    print(f"warning: {message}; the figures are in logs/metrics.csv all the same", file=sys.stderr, flush=True)


class Board(StageLogger):
    """A place beside the metrics file that takes figures, pictures and histograms, and may fail: work goes on.

    The first failure is said and ends the tracking there.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.failed = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the figures of one step."""
        figures = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self._try(lambda: self.send_figures(figures, step or 0))

    def log_picture(self, name: str, picture: Image, step: int) -> None:
        """Send a picture."""
        self._try(lambda: self.send_picture(name, picture, step))

    def log_histogram(self, name: str, counts: NDArray[np.int64], step: int) -> None:
        """Send how often each of 0 to K - 1 occurs, ``counts [K]``."""
        self._try(lambda: self.send_histogram(name, counts, step))

    def log_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Send what was made, and of what."""
        self._try(lambda: self.send_lineage(made, parents))

    def send_figures(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of one step."""
        raise NotImplementedError

    def send_picture(self, name: str, picture: Image, step: int) -> None:
        """Send a picture."""
        raise NotImplementedError

    def send_histogram(self, name: str, counts: NDArray[np.int64], step: int) -> None:
        """Send ``counts [K]``."""
        raise NotImplementedError

    def send_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Send what was made, and of what; a board without lineage takes no notice."""

    def _try(self, send: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            send()
        except Exception as error:  # whatever a tracker comes upon is no reason to lose a training
            self.failed = True
            warn(f"{type(self).__name__} stopped ({' '.join(str(error).split()) or type(error).__name__})")


def boards(loggers: Sequence[Logger]) -> list[Board]:
    """Those of the loggers that take more than figures."""
    return [logger for logger in loggers if isinstance(logger, Board)]
