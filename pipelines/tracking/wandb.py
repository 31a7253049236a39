"""Tracking by wandb: a run for each stage of each job, offline unless asked otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger, WandbLogger

from pipelines.distributed import collectives
from pipelines.sweep.pruned import JobPruned
from pipelines.tracking.base import MediaLogger, warn
from pipelines.tracking.csv import MetricsFile
from pipelines.tracking.job import Artifact, Job
from pipelines.tracking.metrics import GOALS
from pipelines.tracking.wandb_identity import own_identity, run_id

STEP = "trainer/global_step"
"""Lightning's name of the step, by which wandb orders metrics."""

BINS = 512
"""Bars of a histogram at most; wandb takes no more."""

PROJECT = "vqvae-prior"

LOWEST = {"stage1": ("loss", "reconstruction"), "stage2": ("nats",)}
"""Losses of training whose lowest value stands in a run's summary."""


class WandbRunLogger(MediaLogger, WandbLogger):
    """Lightning's wandb logger of a live run, with histograms and lineage.

    Args:
        run: From ``wandb.init``.
        stage: Its job type.
        log_model: Whether models and codes are uploaded with their lineage.
    """

    def __init__(self, run: Any, stage: str, log_model: bool = True) -> None:
        super().__init__(experiment=run, project=PROJECT)
        self.stage = stage
        self.uploads = log_model
        self.attempt(self._define_metrics)

    def _define_metrics(self) -> None:
        run = self.experiment
        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP)
        for metric, goal in GOALS.items():
            stage, _, name = metric.partition(".")
            if stage == self.stage:
                for key in (name, f"{name}_*"):  # with several grids each has its own
                    run.define_metric(f"validation/{key}", step_metric=STEP, summary=goal)
        for loss in LOWEST.get(self.stage, ()):
            run.define_metric(f"train/{loss}", step_metric=STEP, summary="min")

    def send_images(self, key: str, images: list[Image], step: int) -> None:
        """Log images under one name."""
        import wandb

        self.experiment.log({key: [wandb.Image(image) for image in images], STEP: step})

    def send_histogram(self, key: str, counts: NDArray[np.int64], step: int) -> None:
        """Log ``counts [K]``, in bins of neighbouring codes where K is large."""
        import wandb

        edges = np.linspace(0, len(counts), min(len(counts), BINS) + 1).round().astype(int)
        heights = np.add.reduceat(counts, edges[:-1])
        self.experiment.log({key: wandb.Histogram(np_histogram=(heights, edges)), STEP: step})

    def send_summary(self, metrics: Mapping[str, float]) -> None:
        """Write metrics into the run's summary as ``objective=`` calls them: numbers by which runs are compared."""
        self.experiment.summary.update({f"{self.stage}.{name}": value for name, value in metrics.items()})

    def send_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Log an artifact as made from others. Offline only its fingerprint: wandb asks a server for the others."""
        run = self.experiment
        run.summary[f"{made.kind}_fingerprint"] = made.fingerprint
        if run.offline:
            return
        import wandb

        for parent in parents:
            run.use_artifact(f"{parent.name}:latest")
        metadata = {"fingerprint": made.fingerprint, "parents": [parent.fingerprint for parent in parents]}
        artifact = wandb.Artifact(made.name, type=made.kind, metadata={**made.metadata, **metadata})
        for path in made.files if self.uploads else ():
            artifact.add_file(str(path))
        run.log_artifact(artifact)


@dataclass(frozen=True)
class Wandb:
    """Tracks by the metrics file, and by a wandb run for each stage.

    What is None here is taken from wandb's environment variable where that is set.

    Attributes:
        project: Name of wandb's project; None for ``WANDB_PROJECT``, or ``vqvae-prior``.
        mode: ``offline`` writes below the run's folder and sends nothing; ``online`` needs an account.
        group: Name that runs share; None for ``WANDB_RUN_GROUP``, or the folder of the sweep or of the run.
        entity: User or team that the project belongs to; None for ``WANDB_ENTITY``, or the account's own.
        name: Name of the run, which each stage's name is added to; None for ``WANDB_NAME``, or the folder's and, in a
            sweep, the job's overrides.
        tags: None for ``WANDB_TAGS``.
        notes: A longer description; None for ``WANDB_NOTES``.
        log_model: Whether models, codes and samples are uploaded with their lineage. Online only.
        system_metrics: Whether wandb records the use of processor, memory and GPU.
    """

    project: str | None = None
    mode: Literal["online", "offline", "disabled"] = "offline"
    group: str | None = None
    entity: str | None = None
    name: str | None = None
    tags: Sequence[str] | None = None
    notes: str | None = None
    log_model: bool = True
    system_metrics: bool = True

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Give Lightning's loggers for the duration of a job; its wandb run is marked failed if the job fails."""
        loggers: list[Logger] = [MetricsFile(job)]
        run = self._start(job) if collectives.rank() == 0 and self.mode != "disabled" else None
        if run is None:
            yield loggers
            return
        failed = True
        try:
            yield [*loggers, WandbRunLogger(run, job.kind, self.log_model)]
            failed = False
        except JobPruned as pruned:
            run.summary["pruned"] = str(pruned)
            failed = False
            raise
        finally:
            _finish(run, int(failed))

    def _start(self, job: Job) -> Any:
        """A live run; offline where online does not work, None where neither does."""
        run, faults = None, []
        for mode in dict.fromkeys((self.mode, "offline")):
            try:
                run = self._init(job, mode)
                break
            except Exception as error:  # no package, no account, no network, no room: none may fail a training
                faults.append(f"{mode} ({' '.join(str(error).split()) or type(error).__name__})")
        if faults:
            warn(f"wandb does not work {', nor '.join(faults)}")
        return run

    def _init(self, job: Job, mode: str) -> Any:
        # Otherwise wandb reports its own errors over the network, also when it is offline.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # takes seconds, and not every command tracks

        if mode == "online" and not wandb.login(prompt=False):  # wandb.init would ask for a key on the terminal
            raise ValueError("no API key: run wandb login, or set WANDB_API_KEY")
        folder = job.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ
        with own_identity(job):
            return wandb.init(
                entity=self.entity,
                project=self.project or environment.get("WANDB_PROJECT") or PROJECT,
                mode=mode,  # type: ignore[arg-type]
                dir=None if environment.get("WANDB_DIR") else str(folder),
                group=self.group or environment.get("WANDB_RUN_GROUP") or job.group,
                job_type=job.kind,
                name=f"{self.name or environment.get('WANDB_NAME') or job.name}-{job.stage}",
                tags=self.tags,
                notes=self.notes,
                id=run_id(job),
                resume="allow",
                reinit="create_new",  # a run that is open elsewhere in the process is somebody else's
                config=dict(job.config),
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    x_disable_meta=True,  # a command line may hold secrets
                    x_disable_stats=not self.system_metrics,
                ),
            )


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        warn(f"wandb did not end well ({error})")
