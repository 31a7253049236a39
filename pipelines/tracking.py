"""Where figures and pictures of a run go: a metrics file always, wandb beside it unless it is switched off."""

from __future__ import annotations

import csv
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL.Image import Image
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from pipelines import processes
from stage2_prior.files import read_json, write_json

COLUMNS = ("stage", "step", "metric", "value")


@dataclass(frozen=True)
class Job:
    """One stage of one run, as trackers know it.

    Attributes:
        folder: The run's folder.
        stage: ``stage1``, ``extract``, ``stage2`` or ``sample``.
        group: What the runs of one pipeline or sweep share.
        config: The whole resolved configuration, plain data.
    """

    folder: Path
    stage: str
    group: str
    config: Mapping[str, Any]


class Tracker(Protocol):
    """A configured way of tracking."""

    def track(self, job: Job) -> Any:
        """A context manager that gives Lightning's loggers for a job, and ends them."""
        ...


class MetricsFile(Logger):
    """``logs/metrics.csv`` of a run: one line per figure, only ever appended to.

    A stage that goes on after a kill writes some steps again; the later line counts (see :func:`read_metrics`).
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.path = job.folder / "logs" / "metrics.csv"
        self.stage = job.stage

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


@dataclass(frozen=True)
class Wandb:
    """The metrics file, and a wandb run per stage.

    Attributes:
        project: wandb's project.
        mode: ``offline`` writes below the run's folder and sends nothing; ``online`` needs an account.
        group: Name that runs share; null for the run folder's.
    """

    project: str = "vqvae-prior"
    mode: Literal["online", "offline", "disabled"] = "offline"
    group: str | None = None

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Lightning's loggers for the duration of a job; its wandb run is marked failed if the job fails."""
        loggers: list[Logger] = [MetricsFile(job)]
        if processes.rank() != 0 or self.mode == "disabled":
            yield loggers
            return
        import wandb  # seconds to import, and not every command tracks

        folder = job.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(
            project=self.project,
            mode=self.mode,
            dir=str(folder),
            group=self.group or job.group,
            job_type=job.stage,
            name=f"{job.folder.name}-{job.stage}",
            id=run_id(job),
            resume="allow",
            reinit="create_new",  # a run that is still open elsewhere in the process is not ours
            config=dict(job.config),
            settings=wandb.Settings(console="off", silent=True),
        ) as run:
            yield [*loggers, WandbLogger(experiment=run)]


def run_id(job: Job) -> str:
    """The stage's wandb run id: kept in the run's folder, so that a stage that goes on continues its run."""
    path = job.folder / "logs" / "wandb_ids.json"
    ids = read_json(path) if path.exists() else {}
    if job.stage not in ids:
        ids[job.stage] = secrets.token_hex(4)
        write_json(path, ids)
    return str(ids[job.stage])


def log_picture(loggers: list[Logger], name: str, picture: Image, step: int) -> None:
    """Send a picture to every logger that takes pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=step)
