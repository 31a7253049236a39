"""The report of a run: one page that shows what a person would want to see, from what lies in the run's folder."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from safetensors import safe_open

from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.report import page as html
from pipelines.report.evaluation import evaluation
from pipelines.report.plots import figure, percent
from pipelines.report.run import Run
from pipelines.report.training import prior_curves, tokenizer_curves
from pipelines.tracking.metrics import MEANINGS
from stage1_vqvae.files import replacing

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z/][\w./-]*", re.ASCII | re.IGNORECASE)
"""Text that a shell and Hydra take for nothing but itself."""


def write_report(folder: RunFolder) -> None:
    """Write ``report.html`` of a run, whole or not at all; what the run has not made yet is left out.

    Raises:
        ValueError: If a file of the run is damaged.
    """
    run = Run(folder)
    figured = (figures(run), evaluation(folder))
    sections = (header(run), samples(run), tokenizer(run), prior(run), *figured, configuration(run), commands(run))
    with replacing(folder.report) as temporary:
        temporary.write_text(html.page(f"{run.name} – report", sections), encoding="utf-8")


def header(run: Run) -> str:
    """Name, what the run is, and the figures that matter."""
    flow = "".join(f"<span>{escape(part)}</span>" for part in described(run))
    left = [name for name, done in run.steps().items() if not done]
    note = f"This run is not finished, still to come: {', '.join(left)}." if left else ""
    cards = "".join(html.card(*card) for card in key_figures(run))
    return (
        f"<header>\n<h1>{escape(run.name)}</h1>\n"
        + (f'<p class="flow">{flow}</p>\n' if flow else "")
        + (f'<p class="note">{note}</p>\n' if note else "")
        + (f'<div class="cards">\n{cards}</div>\n' if cards else "")
        + "</header>\n"
    )


def described(run: Run) -> Iterator[str]:
    """The run in a line: images, codes, prior."""
    images = run.tokenizer_config.get("data", {}).get("train")
    if images:
        size = images["preprocessing"]
        yield f"{images['count']:,} images of {images['source']}, {size['height']}×{size['width']}"
    layout = run.layout
    if layout:
        grids = " + ".join("×".join(map(str, grid)) for grid in layout.grids)
        sizes = " + ".join(map(str, dict.fromkeys(layout.codebook_sizes)))
        yield f"{layout.length} codes of {sizes} in a {grids} grid"
    if run.prior_config:
        kind = str(run.prior_config["model"]["_target_"]).rpartition(".")[2]
        classes = run.prior_config["num_classes"]
        yield f"{kind} prior" + (f" over {classes} classes" if classes else "")
    if run.steps()["samples"]:
        yield "new images"


def key_figures(run: Run) -> Iterator[tuple[str, str, str]]:
    """Name, value and remark of each figure for the header."""
    first, second = run.tokenizer_figures, run.prior_figures
    sizes = " and ".join(map(str, run.layout.codebook_sizes)) if run.layout else ""
    if "psnr" in first:
        yield "PSNR", f"{figure(first['psnr'])} dB", "of reconstructions, held out"
    if "ssim" in first:
        yield "SSIM", figure(first["ssim"]), "of reconstructions, 1 is perfect"
    for title, name, text in (("Codes in use", "usage", percent), ("Perplexity", "perplexity", figure)):
        values = [text(value) for key, value in first.items() if re.fullmatch(rf"{name}(_\d+)?", key)]
        if values:
            remark = f"of {sizes} codes, held out" if sizes else "held out"
            yield title, " · ".join(values), remark
    if "nats" in second:
        remark = f"log K is {figure(second['uniform_nats'])}, frequencies alone {figure(second['unigram_nats'])}"
        grids = [figure(value) for name, value in second.items() if re.fullmatch(r"nats_\d+", name)]
        yield "Nats per code", figure(second["nats"]), f"{' · '.join(grids)} by grid, {remark}" if grids else remark
    counts = {part: weights(getattr(run.folder, part)) for part in ("tokenizer", "prior")}
    if any(counts.values()):
        remark = ", ".join(f"{part} {shortened(count)}" for part, count in counts.items() if count)
        yield "Weights", shortened(sum(counts.values())), remark


def weights(model: Path) -> int:
    """How many numbers a model's file holds; 0 where there is none. Only the file's header is read."""
    if not finished(model):
        return 0
    with safe_open(model / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def shortened(count: int) -> str:
    """A large count as people say it."""
    for size, letter in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def samples(run: Run) -> str:
    """The grid of samples, and how they were drawn."""
    path = run.folder.samples / "grid.png"
    if not path.exists():
        return ""
    settings = run.samples_settings
    columns, classes = min(10, settings.get("n", 10)), run.class_names
    in_turn = bool(classes) and settings.get("label") is None
    heads = classes * (columns // len(classes)) if in_turn and columns % len(classes) == 0 else []
    words = "New images, drawn by the prior and decoded by the tokenizer, none picked by hand."
    if in_turn:
        words += " The classes come in turn, one to a column." if heads else " The classes come in turn, row by row."
    told = {name: value for name, value in settings.items() if value is not None and name != "prior"}
    shown = [(name.replace("_", "-"), str(value)) for name, value in told.items()]
    return html.section(
        "Samples",
        html.box(
            html.picture(path, "samples", heads=heads),
            f"<div>{html.text(words)}{html.pairs(shown)}</div>",
            layout="beside",
        ),
    )


def tokenizer(run: Run) -> str:
    """Stage one: reconstructions, curves, use of the codebook."""
    pictures = run.pictures("stage1")
    shown = ""
    if pictures:
        step, path = list(pictures.items())[-1]
        caption = f"After {step:,} steps: held-out images in the odd rows, below each what its codes decode to."
        shown = html.box(html.picture(path, "reconstructions", caption), layout="scroll")
    return html.section("Tokenizer", shown, tokenizer_curves(run.metrics.get("stage1", {}), run.codes))


def prior(run: Run) -> str:
    """Stage two: its curve, and samples while it trained."""
    pictures = list(run.pictures("stage2").items())
    chosen = {index: pictures[index] for index in (0, len(pictures) // 2, len(pictures) - 1)} if pictures else {}
    shown = "".join(html.picture(path, "samples", f"Samples after {step:,} steps") for step, path in chosen.values())
    # Grids whose parts were trained apart have curves of their own.
    trained = {stage: metrics for stage, metrics in sorted(run.metrics.items()) if stage.startswith("stage2")}
    curves = [prior_curves(metrics, stage.removeprefix("stage2").lstrip(".")) for stage, metrics in trained.items()]
    return html.section("Prior", *curves, html.box(shown, layout="three"))


def figures(run: Run) -> str:
    """Every figure of the finished models."""
    parts = {"tokenizer": run.tokenizer_figures, "prior": run.prior_figures}
    rows = [
        (part, name, f"{value:.6g}", MEANINGS.get(re.sub(r"_\d+$", "", name), ""))
        for part, metrics in parts.items()
        for name, value in metrics.items()
    ]
    heads = ("Model", "Figure", "Held out", "Meaning")
    return html.section("Figures", html.box(html.table(heads, rows)) if rows else "")


def configuration(run: Run) -> str:
    """What made each part, and the models' fingerprints."""
    names = ("tokenizer/settings.yaml", "codes/settings.yaml", "prior/settings.yaml", "samples/settings.yaml")
    files = [(name, run.folder.path / name) for name in names]
    folded = "".join(html.folded(name, path.read_text(encoding="utf-8")) for name, path in files if path.exists())
    steps = run.steps()
    marks = {name: fingerprint(run.folder.path / name) for name in ("tokenizer", "prior") if steps[name]}
    if run.prior_config:
        marks["prior is of tokenizer"] = run.prior_config["tokenizer"]
    words = html.text("Fingerprints: SHA-256 over a model's configuration and weights.") if marks else ""
    return html.section("Configuration", html.box(folded), html.box(words, html.pairs(marks.items())) if marks else "")


def commands(run: Run) -> str:
    """How to go on with the run."""
    steps = run.steps()
    if not (steps["tokenizer"] and steps["prior"]):
        return html.section("How to go on", html.text("The command that started the run goes on where it was."))
    path = _shown(run.folder.path)
    sample = f"python -m pipelines.sample {override('model', path)}"
    drawn = run.samples_settings if steps["samples"] else {}
    again = " ".join(override(name, drawn[name]) for name in ("n", "label", "seed") if drawn.get(name) is not None)
    label, call = ("label=0 ", "label=0, ") if run.class_names else ("", "")
    python = (
        "from pipelines.generator import Generator\n\n"
        f"generator = Generator.load({path!r})\n"
        f"samples = generator.sample(64, {call}seed=1)  # images [64, C, H, W] in [0, 1], codes [64, T], labels [64]\n"
        "codes = generator.encode(samples.images)  # [64, T]\n"
        "images = generator.decode(codes)  # [64, C, H, W]\n"
    )
    return html.section(
        "How to go on",
        *reproduction(run),
        html.text("The samples of this page once more, and new ones:") if again else html.text("New images:"),
        html.listing((f"{sample} {again}\n" if again else "") + f"{sample} n=64 {label}seed=1 temperature=0.9\n"),
        html.text("From Python:"),
        html.listing(python),
    )


def reproduction(run: Run) -> list[str]:
    """The commands that make the run once more, in a folder of its own, and what it ran with."""
    if not run.records:
        return []
    output = override("output", f"{_shown(run.folder.path)}-again")
    lines = []
    for record in run.records:
        words = [shlex.quote(word) for word in record["overrides"] if word.partition("=")[0] != "output"]
        lines.append(" ".join(["python -m pipelines.run", *words, output]))
    versions = ", ".join(f"{name} {version}" for name, version in run.records[-1]["versions"].items())
    return [
        html.text("This run once more, from images to samples:"),
        html.listing("\n".join(lines) + "\n"),
        html.text(f"The same settings give the same images where these are the same: {versions}."),
    ]


def override(key: str, value: Any) -> str:
    """Hydra's ``key=value`` for a shell, quoted where either's grammar needs it."""
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        value = QuotedString(value, Quote.single).with_quotes()
    return shlex.quote(f"{key}={value}")


def _shown(path: Path) -> str:
    """A folder as it is called from here, if it lies below here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
