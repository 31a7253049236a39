"""The figures of a run: what they mean, which way is better, and which one a sweep is after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipelines.artifacts.run_folder import RunFolder
from pipelines.config.instantiate import suggestion
from stage1_vqvae.files import read_json

Goal = Literal["min", "max"]

GOALS: dict[str, Goal] = {
    "stage1.mse": "min",
    "stage1.psnr": "max",
    "stage1.ssim": "max",
    "stage1.usage": "max",
    "stage1.perplexity": "max",
    "stage2.nats": "min",
    "stage2.bits": "min",
}
"""Which way a figure is better, by stage and name; those of several grids have the grid's number behind."""

MEANINGS = {
    "mse": "mean squared error of pixels in [-1, 1]",
    "psnr": "peak signal-to-noise ratio in dB, higher is better",
    "ssim": "structural similarity, 1 is perfect",
    "usage": "share of the codebook that occurs",
    "perplexity": "size of an evenly used codebook of as much information",
    "nats": "per code, lower is better",
    "bits": "per code, lower is better",
    "uniform_nats": "per code, knowing nothing: log K",
    "unigram_nats": "per code, knowing only how frequent each code is",
}

DEFAULT = ("stage2.nats", "stage1.mse")
"""What ``objective=null`` stands for: the first of these that a job has."""


def goal(name: str) -> Goal | None:
    """Which way a figure is better; None where neither is."""
    return GOALS.get(re.sub(r"_\d+$", "", name))


def final_figures(run: RunFolder) -> dict[str, float]:
    """Figures of the finished models by stage and name, such as ``stage2.nats``."""
    found: dict[str, float] = {}
    for stage, folder in (("stage1", run.tokenizer), ("stage2", run.prior)):
        if (folder / "metrics.json").exists():
            found |= {f"{stage}.{name}": float(value) for name, value in read_json(folder / "metrics.json").items()}
    return found


def objectives(value: Any) -> list[str]:
    """The figures that ``objective=`` names.

    Raises:
        ValueError: If there is no such figure.
    """
    names = [] if value is None else [value] if isinstance(value, str) else list(value)
    for name in names:
        if goal(name) is None:
            raise ValueError(f"objective: no figure {name!r};{suggestion(name, GOALS)}")
    return names


def objective_value(settings: Mapping[str, Any]) -> Any:
    """What a job returns to a sweeper: the figure that ``objective`` names, several for a list, or None if it has none.

    Raises:
        ValueError: If a figure was asked for that the command does not make.
    """
    figures = final_figures(RunFolder(Path(settings["output"])))
    asked = settings["objective"]
    if asked is None:
        return next((figures[name] for name in DEFAULT if name in figures), None)
    for name in objectives(asked):
        if name not in figures:
            raise ValueError(f"objective: this command makes no {name}; there are {', '.join(figures)}")
    return figures[asked] if isinstance(asked, str) else tuple(figures[name] for name in asked)
