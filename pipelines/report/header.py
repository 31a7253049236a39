"""The head of a run's report: what the run is, in a line, and the metrics that matter, on cards."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from pipelines.artifacts.run_folder import finished
from pipelines.report.formatting import count, number, percent
from pipelines.report.run import Run


@dataclass(frozen=True)
class Card:
    """A metric on a card: its name, its value, and a remark below."""

    name: str
    value: str
    remark: str


def description(run: Run) -> Iterator[str]:
    """The parts of a line that says what the run is: images, codes, prior."""
    images = run.tokenizer_config.get("data", {}).get("train")
    if images:
        size = images["preprocessing"]
        yield f"{images['count']:,} images of {images['source']}, {size['height']}×{size['width']}"
    if run.layout:
        yield run.layout.in_words
    if run.prior_config:
        kind = str(run.prior_config["model"]["_target_"]).rpartition(".")[2]
        classes = run.prior_config["num_classes"]
        yield f"{kind} prior" + (f" over {classes} classes" if classes else "")
    if run.steps()["samples"]:
        yield "new images"


def cards(run: Run) -> Iterator[Card]:
    """The metrics that matter."""
    yield from _tokenizer_cards(run)
    yield from _prior_cards(run)
    sizes = {part: parameters(getattr(run.folder, part)) for part in ("tokenizer", "prior")}
    if any(sizes.values()):
        remark = ", ".join(f"{part} {count(size)}" for part, size in sizes.items() if size)
        yield Card("Weights", count(sum(sizes.values())), remark)


def _tokenizer_cards(run: Run) -> Iterator[Card]:
    metrics = run.tokenizer_metrics
    if "psnr" in metrics:
        yield Card("PSNR", f"{number(metrics['psnr'])} dB", "of reconstructions, held out")
    if "ssim" in metrics:
        yield Card("SSIM", number(metrics["ssim"]), "of reconstructions, 1 is perfect")
    sizes = " and ".join(map(str, run.layout.codebook_sizes)) if run.layout else ""
    for title, name, text in (("Codes in use", "usage", percent), ("Perplexity", "perplexity", number)):
        values = [text(value) for key, value in metrics.items() if re.fullmatch(rf"{name}(_\d+)?", key)]
        if values:
            yield Card(title, " · ".join(values), f"of {sizes} codes, held out" if sizes else "held out")


def _prior_cards(run: Run) -> Iterator[Card]:
    metrics = run.prior_metrics
    if "nats" in metrics:
        remark = f"log K is {number(metrics['uniform_nats'])}, frequencies alone {number(metrics['unigram_nats'])}"
        grids = [number(value) for name, value in metrics.items() if re.fullmatch(r"nats_\d+", name)]
        by_grid = f"{' · '.join(grids)} by grid, " if grids else ""
        yield Card("Nats per code", number(metrics["nats"]), by_grid + remark)


def parameters(model: Path) -> int:
    """How many numbers a model's file holds; 0 where there is none. Only the file's header is read."""
    if not finished(model):
        return 0
    with safe_open(model / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
