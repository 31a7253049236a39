"""Tracking by TensorBoard: event files below the run's ``logs/tensorboard``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from pipelines.distributed import collectives
from pipelines.tracking.base import MediaLogger
from pipelines.tracking.csv import MetricsFile
from pipelines.tracking.job import Job


class TensorBoardRunLogger(MediaLogger, TensorBoardLogger):
    """Lightning's TensorBoard logger, with images and histograms."""

    def send_images(self, key: str, images: list[Image], step: int) -> None:
        """Log images, each under the name and its number if there are several."""
        for number, image in enumerate(images):
            name = key if len(images) == 1 else f"{key}/{number}"
            self.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def send_histogram(self, key: str, counts: NDArray[np.int64], step: int) -> None:
        """Log ``counts [K]``."""
        codes = np.arange(len(counts))
        self.experiment.add_histogram_raw(
            key,
            min=0,
            max=len(counts) - 1,
            num=int(counts.sum()),
            sum=float(codes @ counts),
            sum_squares=float(codes**2 @ counts),
            bucket_limits=(codes + 0.5).tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


@dataclass(frozen=True)
class TensorBoard:
    """Tracks by the metrics file, and by TensorBoard's event files of each stage.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __post_init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError("tensorboard is not installed: pip install 'vqvae-prior[tensorboard]', or logger=csv")

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Give Lightning's loggers for the duration of a job."""
        loggers: list[Logger] = [MetricsFile(job)]
        if collectives.rank() != 0:
            yield loggers
            return
        logger = TensorBoardRunLogger(job.folder / "logs" / "tensorboard", name=job.stage, version="")
        try:
            yield [*loggers, logger]
        finally:
            logger.finalize("finished")
