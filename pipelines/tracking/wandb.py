"""Tracking by wandb: a run for each stage of each job, offline unless asked otherwise."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger

from pipelines.distributed import collectives
from pipelines.tracking.base import Artifact, Board, Job, MetricsFile, warn
from pipelines.tracking.metrics import GOALS
from stage1_vqvae.files import read_json, write_json

STEP = "trainer/global_step"
BINS = 512
"""Bars of wandb's histograms at most."""


class WandbRun(Board):
    """A live run of wandb.

    Args:
        run: From ``wandb.init``.
        stage: Its job type.
    """

    def __init__(self, run: Any, stage: str) -> None:
        super().__init__(stage)
        self.run = run
        self._try(self._define_metrics)

    def _define_metrics(self) -> None:
        self.run.define_metric(STEP, hidden=True)
        self.run.define_metric("*", step_metric=STEP)
        for figure, goal in GOALS.items():
            stage, _, name = figure.partition(".")
            if stage == self.stage:
                for key in (name, f"{name}_*"):  # of several grids, each has its own
                    self.run.define_metric(f"validation/{key}", step_metric=STEP, summary=goal)
        for loss in {"stage1": ("loss", "reconstruction"), "stage2": ("nats",)}.get(self.stage, ()):
            self.run.define_metric(f"train/{loss}", step_metric=STEP, summary="min")

    @property
    def version(self) -> str:
        """The run's id."""
        return str(self.run.id)

    def send_figures(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of one step; steps may come again after a kill."""
        self.run.log({**figures, STEP: step})

    def send_picture(self, name: str, picture: Image, step: int) -> None:
        """Send a picture."""
        import wandb

        self.run.log({name: wandb.Image(picture), STEP: step})

    def send_histogram(self, name: str, counts: NDArray[np.int64], step: int) -> None:
        """Send ``counts [K]``, neighbours together where K is large."""
        import wandb

        edges = np.linspace(0, len(counts), min(len(counts), BINS) + 1).round().astype(int)
        heights = np.add.reduceat(counts, edges[:-1])
        self.run.log({name: wandb.Histogram(np_histogram=(heights, edges)), STEP: step})

    def send_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Record what was made of what; offline nothing, as the files carry the same fingerprints themselves."""
        self.run.summary[f"{made.kind}_fingerprint"] = made.fingerprint
        if self.run.offline:
            return
        import wandb

        for parent in parents:
            self.run.use_artifact(f"{artifact_name(parent)}:latest")
        metadata = {"fingerprint": made.fingerprint, "parents": [parent.fingerprint for parent in parents]}
        artifact = wandb.Artifact(artifact_name(made), type=made.kind, metadata={**made.metadata, **metadata})
        for path in made.files:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)


def artifact_name(artifact: Artifact) -> str:
    """The name under which every run knows it."""
    return f"{artifact.kind}-{artifact.fingerprint[:12]}"


@dataclass(frozen=True)
class Wandb:
    """The metrics file, and a wandb run for each stage.

    Attributes:
        project: wandb's project.
        mode: ``offline`` writes below the run's folder and sends nothing; ``online`` needs an account.
        group: Name that runs share; null for the folder's of the sweep, or of the run.
    """

    project: str = "vqvae-prior"
    mode: Literal["online", "offline", "disabled"] = "offline"
    group: str | None = None

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Loggers for the duration of a job; its wandb run is marked failed if the job fails."""
        loggers: list[Logger] = [MetricsFile(job)]
        run = self._start(job) if collectives.rank() == 0 and self.mode != "disabled" else None
        if run is None:
            yield loggers
            return
        failed = True
        try:
            yield [*loggers, WandbRun(run, job.kind)]
            failed = False
        finally:
            self._finish(run, int(failed))

    def _start(self, job: Job) -> Any:
        """A live run; offline where online does not work, None where nothing does."""
        run, faults = None, []
        for mode in dict.fromkeys((self.mode, "offline")):
            try:
                run = self._init(job, mode)
                break
            except Exception as error:  # no package, no account, no network, no room: none may cost a training
                faults.append(f"{mode} ({' '.join(str(error).split()) or type(error).__name__})")
        if faults:
            warn(f"wandb does not work {', nor '.join(faults)}")
        return run

    def _init(self, job: Job, mode: Any) -> Any:
        # Else wandb reports on itself over the network, also offline.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # seconds to import, and not every command tracks

        if mode == "online" and not wandb.login(prompt=False):  # which init would ask a terminal for
            raise ValueError("no API key: run wandb login, or set WANDB_API_KEY")
        folder = job.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=self.project,
            mode=mode,
            dir=str(folder),
            group=self.group or job.group,
            job_type=job.kind,
            name=f"{job.folder.name}-{job.stage}",
            id=run_id(job),
            resume="allow",
            reinit="create_new",  # a run that is still open elsewhere in the process is not ours
            config=dict(job.config),
            settings=wandb.Settings(console="off", silent=True, x_disable_meta=True),  # a command line holds secrets
        )

    @staticmethod
    def _finish(run: Any, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            warn(f"wandb did not end well ({error})")


def run_id(job: Job) -> str:
    """The stage's wandb run id: kept in the run's folder, so that a stage that goes on continues its run."""
    path = job.folder / "logs" / "wandb_ids.json"
    ids = read_json(path) if path.exists() else {}
    if job.stage not in ids:
        ids[job.stage] = secrets.token_hex(4)
        write_json(path, ids)
    return str(ids[job.stage])
