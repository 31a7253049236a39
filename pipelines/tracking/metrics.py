"""The metrics of a finished run: what they mean, which way is better, and which one a sweep compares jobs by."""

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
"""Whether a metric is to be small or large, by stage and name; a grid's own end in ``_`` and its number."""

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
"""``objective=null`` is the first of these that a job has."""


def goal(name: str) -> Goal | None:
    """Whether a metric is to be small or large; None for one that is no objective."""
    return GOALS.get(re.sub(r"_\d+$", "", name))


def final_metrics(run: RunFolder) -> dict[str, float]:
    """Metrics of the finished models by stage and name, such as ``stage2.nats``."""
    found: dict[str, float] = {}
    for stage, folder in (("stage1", run.tokenizer), ("stage2", run.prior)):
        if (folder / "metrics.json").exists():
            found |= {f"{stage}.{name}": float(value) for name, value in read_json(folder / "metrics.json").items()}
    return found


def objectives(value: Any) -> list[str]:
    """The metrics that ``objective=`` names.

    Raises:
        ValueError: If there is no such metric.
    """
    names = [] if value is None else [value] if isinstance(value, str) else list(value)
    for name in names:
        if goal(name) is None:
            raise ValueError(f"objective: no metric {name!r};{suggestion(name, GOALS)}")
    return names


def objective_value(settings: Mapping[str, Any]) -> Any:
    """The value that a job returns to a sweeper: of the metric that ``objective`` names, or of several for a list.

    With ``objective=null`` it is the first of ``DEFAULT`` that the job has, and None if it has none of them.

    Raises:
        ValueError: If the command does not make the metric that was asked for.
    """
    metrics = final_metrics(RunFolder(Path(settings["output"])))
    asked = settings["objective"]
    if asked is None:
        return next((metrics[name] for name in DEFAULT if name in metrics), None)
    for name in objectives(asked):
        if name not in metrics:
            raise ValueError(f"objective: this command makes no {name}; there are {', '.join(metrics)}")
    return metrics[asked] if isinstance(asked, str) else tuple(metrics[name] for name in asked)
