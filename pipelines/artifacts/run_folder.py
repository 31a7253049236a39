"""Where things lie in a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

COPIES = "copies.png"
"""In the folder of an evaluation: the samples that are nearest to training images, each above that image."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: what a pipeline leaves and every later command takes."""

    path: Path

    @property
    def tokenizer(self) -> Path:
        """The trained VQ-VAE."""
        return self.path / "tokenizer"

    @property
    def discriminator(self) -> Path:
        """What the tokenizer was trained against, if it was."""
        return self.tokenizer / "discriminator"

    @property
    def data(self) -> Path:
        """How the run's images are opened."""
        return self.tokenizer / "data.yaml"

    @property
    def images(self) -> Path:
        """Which images the run is made of, a few bytes of each."""
        return self.tokenizer / "images.npz"

    @property
    def prior(self) -> Path:
        """The trained prior."""
        return self.path / "prior"

    def level(self, grid: int) -> Path:
        """The part of the prior for one grid, where it is trained apart from the others."""
        return self.prior / "levels" / str(grid)

    @property
    def samples(self) -> Path:
        """What the recipe sampled."""
        return self.path / "samples"

    @property
    def evaluations(self) -> Path:
        """Evaluations of the models, a folder for each."""
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        """What a person would want to see."""
        return self.path / "report.html"

    def codes(self, split: str) -> Path:
        """Code store of a split, ``train`` or ``validation``."""
        return self.path / "codes" / split

    def checkpoints(self, stage: str) -> Path:
        """Lightning checkpoints of a stage, for resuming."""
        return self.path / "checkpoints" / stage

    def pictures(self, stage: str) -> Path:
        """Pictures drawn while a stage trained."""
        return self.path / "logs" / "pictures" / stage


def dependents(run: RunFolder, part: Literal["tokenizer", "codes"]) -> list[Path]:
    """Folders of what is trained or extracted from a part of a run, and has to go with it.

    What a prior makes (samples, evaluations) is not among them: it is set aside where the prior is another.
    """
    codes = [run.path / "codes"] if part == "tokenizer" else []
    return [*codes, run.prior, *sorted((run.path / "checkpoints").glob("stage2*"))]


def finished(model_folder: Path) -> bool:
    """Whether a model's folder is complete: its configuration is written last."""
    return (model_folder / "config.yaml").exists()
