"""The report of a run: one page that shows what its folder holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts.models import CODES_OF, fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.report.charts import Chart
from pipelines.report.commands import Commands
from pipelines.report.evaluation import read_evaluations
from pipelines.report.header import cards, description
from pipelines.report.page import write_page
from pipelines.report.run import Run
from pipelines.report.training import prior_charts, tokenizer_charts
from pipelines.tracking.metrics import MEANINGS


@dataclass(frozen=True)
class Metric:
    """A metric of a finished model, with its value and its meaning."""

    name: str
    value: float
    meaning: str
    model: str


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn during training.

    Attributes:
        step: Optimiser steps before it.
        path: Its file.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class Samples:
    """The grid of samples.

    Attributes:
        grid: Its file.
        heads: Names of the classes of its columns; empty where a column is no class.
        classes_in_turn: Whether the samples are of the classes in turn.
        settings: How they were drawn, names and values.
    """

    grid: Path
    heads: list[str]
    classes_in_turn: bool
    settings: list[tuple[str, str]]


def write_report(folder: RunFolder) -> None:
    """Write ``report.html`` of a run, whole or not at all; what the run has not made yet is left out.

    Raises:
        ValueError: If a file of the run is damaged.
    """
    run = Run(folder)
    steps = run.steps()
    evaluations = read_evaluations(folder)
    tokenizer_pictures = pictures(run, "stage1")
    write_page(
        folder.report,
        "run.html",
        run=run,
        description=list(description(run)),
        cards=list(cards(run)),
        unfinished=[name for name, done in steps.items() if not done],
        unfinished_models=not (steps["tokenizer"] and steps["prior"]),
        samples=samples(run),
        reconstructions=tokenizer_pictures[-1] if tokenizer_pictures else None,
        tokenizer_charts=tokenizer_charts(run.metrics.get("stage1", {}), run.codes),
        prior_charts=charts_of_prior(run),
        prior_pictures=spread(pictures(run, "stage2")),
        metrics=list(metrics(run)),
        evaluations=evaluations,
        remarks=list(dict.fromkeys(remark for one in evaluations for remark in one.remarks)),
        configuration=configuration(run),
        fingerprints=fingerprints(run),
        commands=Commands.of(run),
    )


def samples(run: Run) -> Samples | None:
    """The run's samples and how they were drawn; None where there are none."""
    grid = run.folder.samples / "grid.png"
    if not grid.exists():
        return None
    settings, classes = run.samples_settings, run.class_names
    columns = min(10, settings.get("n", 10))
    in_turn = bool(classes) and settings.get("label") is None
    heads = classes * (columns // len(classes)) if in_turn and columns % len(classes) == 0 else []
    shown = {name: value for name, value in settings.items() if value is not None and name != "prior"}
    return Samples(grid, heads, in_turn, [(name.replace("_", "-"), str(value)) for name, value in shown.items()])


def pictures(run: Run, stage: str) -> list[Picture]:
    """Pictures drawn while a stage trained, in order of steps."""
    return [Picture(step, path) for step, path in run.pictures(stage).items()]


def spread(drawn: list[Picture]) -> list[Picture]:
    """The first, the middle and the last of several pictures."""
    places = sorted({0, len(drawn) // 2, len(drawn) - 1})
    return [drawn[place] for place in places] if drawn else []


def charts_of_prior(run: Run) -> list[Chart]:
    """Charts of stage two; grids whose parts were trained apart have curves of their own."""
    stages = {stage: metrics for stage, metrics in sorted(run.metrics.items()) if stage.startswith("stage2")}
    parts = [prior_charts(metrics, stage.removeprefix("stage2").lstrip(".")) for stage, metrics in stages.items()]
    return [chart for part in parts for chart in part]


def metrics(run: Run) -> Iterator[Metric]:
    """Every metric of the finished models."""
    for model, values in (("tokenizer", run.tokenizer_metrics), ("prior", run.prior_metrics)):
        for name, value in values.items():
            yield Metric(name, value, MEANINGS.get(re.sub(r"_\d+$", "", name), ""), model)


def configuration(run: Run) -> list[tuple[str, str]]:
    """Names and contents of the files that say what made each part."""
    names = ("tokenizer/settings.yaml", "codes/settings.yaml", "prior/settings.yaml", "samples/settings.yaml")
    files = [(name, run.folder.path / name) for name in names]
    return [(name, path.read_text(encoding="utf-8")) for name, path in files if path.exists()]


def fingerprints(run: Run) -> list[tuple[str, str]]:
    """Fingerprints of the finished models, and of the tokenizers whose codes the run has and the prior belongs to."""
    steps = run.steps()
    found = [(name, fingerprint(run.folder.path / name)) for name in ("tokenizer", "prior") if steps[name]]
    if CODES_OF in run.tokenizer_config:
        found.append(("codes are of tokenizer", run.tokenizer_config[CODES_OF]))
    if run.prior_config:
        found.append(("prior is of tokenizer", run.prior_config["tokenizer"]))
    return found
