"""Tracking by TensorBoard: event files below the run's ``logs/tensorboard``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pytorch_lightning.loggers import Logger

from pipelines.distributed import collectives
from pipelines.tracking.base import Board, Job, MetricsFile


class TensorBoardFolder(Board):
    """A folder of event files.

    Args:
        writer: torch's ``SummaryWriter``.
        stage: The job's.
    """

    def __init__(self, writer: Any, stage: str) -> None:
        super().__init__(stage)
        self.writer = writer

    def send_figures(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of one step."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def send_picture(self, name: str, picture: Image, step: int) -> None:
        """Send a picture."""
        self.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def send_histogram(self, name: str, counts: NDArray[np.int64], step: int) -> None:
        """Send ``counts [K]``."""
        codes = np.arange(len(counts))
        self.writer.add_histogram_raw(
            name,
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
    """The metrics file, and TensorBoard's event files for each stage.

    Raises:
        ValueError: If the package is missing.
    """

    def __post_init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError("tensorboard is not installed: pip install 'vqvae-prior[tensorboard]', or logger=csv")

    @contextmanager
    def track(self, job: Job) -> Iterator[list[Logger]]:
        """Loggers for the duration of a job."""
        if collectives.rank() != 0:
            yield [MetricsFile(job)]
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(job.folder / "logs" / "tensorboard" / job.stage)) as writer:
            yield [MetricsFile(job), TensorBoardFolder(writer, job.stage)]
