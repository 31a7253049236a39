"""Evaluations of a run, for its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts.run_folder import COPIES, RunFolder
from pipelines.evaluation.wording import TITLES, Row, rows
from stage1_vqvae.files import read_json


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        name: Of its folder.
        reading: A sentence on whether the latents carry the images.
        remarks: What a reader has to know of the metrics.
        panels: Titles of its sections and their metrics.
        copies: Picture of the samples that are nearest to training images, if there is one.
    """

    name: str
    reading: str
    remarks: list[str]
    panels: list[tuple[str, list[Row]]]
    copies: Path | None

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """The evaluation of a file ``evaluation.json``."""
        found = read_json(path)
        panels = [(title, rows(found[section])) for section, title in TITLES.items() if section in found]
        copies = path.parent / COPIES
        shown = copies if copies.exists() else None
        return cls(path.parent.name, found["reading"], found["remarks"], panels, shown)


def read_evaluations(folder: RunFolder) -> list[Evaluation]:
    """Every finished evaluation of a run, by name."""
    return [Evaluation.read(path) for path in sorted(folder.evaluations.glob("*/evaluation.json"))]
