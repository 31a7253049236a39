"""Evaluations of a run, for its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts.run_folder import RunFolder
from pipelines.evaluation.wording import TITLES, meaning
from stage1_vqvae.files import read_json


@dataclass(frozen=True)
class Metric:
    """A metric with its value and its meaning, and the model it is of where that has to be said."""

    name: str
    value: float
    meaning: str
    model: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        name: Of its folder.
        reading: A sentence on whether the latents carry the images.
        remarks: What a reader has to know of the metrics.
        panels: Titles of its sections and their metrics.
    """

    name: str
    reading: str
    remarks: list[str]
    panels: list[tuple[str, list[Metric]]]

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """The evaluation of a file ``evaluation.json``."""
        found = read_json(path)
        panels = [
            (title, [Metric(name, value, meaning(name)) for name, value in found[section].items()])
            for section, title in TITLES.items()
            if section in found
        ]
        return cls(path.parent.name, found["reading"], found["remarks"], panels)


def read_evaluations(folder: RunFolder) -> list[Evaluation]:
    """Every finished evaluation of a run, by name."""
    return [Evaluation.read(path) for path in sorted(folder.evaluations.glob("*/evaluation.json"))]
