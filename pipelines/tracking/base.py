"""What trackers have in common: Lightning's loggers for a job, which may fail without failing the job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from pipelines.tracking.job import Artifact, Job


class Tracker(Protocol):
    """A configured way of tracking; what ``logger=`` chooses."""

    def track(self, job: Job) -> AbstractContextManager[list[Logger]]:
        """A context manager that gives Lightning's loggers for a job, and ends them."""
        ...


def metrics_of_interest(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as plain floats, without Lightning's epoch: a training is one epoch here."""
    return {name: float(value) for name, value in metrics.items() if name != "epoch"}


def warn(message: str) -> None:
    """Print that tracking lost something."""
    print(f"warning: {message}; logs/metrics.csv has the metrics all the same", file=sys.stderr, flush=True)


class MediaLogger(Logger):
    """A logger that also takes images, histograms and lineage, and that may fail without failing the job.

    The first failure is printed and ends the logging there. To be combined with one of Lightning's loggers, as the
    first base: ``class WandbRunLogger(MediaLogger, WandbLogger)``.
    """

    failed = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of a step."""
        # Abstract in Logger alone; the next class is one of Lightning's loggers.
        log = super().log_metrics  # type: ignore[safe-super]
        self.attempt(lambda: log(metrics_of_interest(metrics), step))

    def log_image(self, key: str, images: list[Image], step: int | None = None, **kwargs: Any) -> None:
        """Log images under one name."""
        self.attempt(lambda: self.send_images(key, images, step or 0))

    def log_histogram(self, key: str, counts: NDArray[np.int64], step: int) -> None:
        """Log how often each of 0 to K - 1 occurs, ``counts [K]``."""
        self.attempt(lambda: self.send_histogram(key, counts, step))

    def log_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Log an artifact and those that it was made from."""
        self.attempt(lambda: self.send_lineage(made, parents))

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the model that a training ends with."""
        self.attempt(lambda: self.send_summary(metrics))

    def save(self) -> None:
        """Write what the logger holds back."""
        self.attempt(super().save)

    def finalize(self, status: str) -> None:
        """End a training, a validation or a test."""
        self.attempt(lambda: super(MediaLogger, self).finalize(status))

    def send_images(self, key: str, images: list[Image], step: int) -> None:
        """Log images; may raise anything."""
        raise NotImplementedError

    def send_histogram(self, key: str, counts: NDArray[np.int64], step: int) -> None:
        """Log ``counts [K]``; may raise anything."""
        raise NotImplementedError

    def send_summary(self, metrics: Mapping[str, float]) -> None:
        """Log a training's last metrics; may raise anything. Does nothing for a tracker that has no place for them."""

    def send_lineage(self, made: Artifact, parents: Sequence[Artifact]) -> None:
        """Log an artifact's lineage; may raise anything. Does nothing for a tracker without lineage."""

    def attempt(self, log: Callable[[], None]) -> None:
        """Call ``log`` unless logging failed before; print the first failure, whatever it is."""
        if self.failed:
            return
        try:
            log()
        except Exception as error:
            self.failed = True
            warn(f"{type(self).__name__} stopped ({' '.join(str(error).split()) or type(error).__name__})")


def media_loggers(loggers: Sequence[Logger]) -> list[MediaLogger]:
    """The loggers that take more than metrics."""
    return [logger for logger in loggers if isinstance(logger, MediaLogger)]
