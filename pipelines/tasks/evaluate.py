"""Measure a run on held-out images, and samples that are drawn for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from pipelines.artifacts.models import Saved, load_tokenizer
from pipelines.artifacts.run_folder import COPIES, RunFolder, finished
from pipelines.artifacts.stale import set_aside_stale
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.evaluation.copies import measure_copies
from pipelines.evaluation.features import Features, InceptionFeatures, TrainedNetwork
from pipelines.evaluation.fixed_features import (
    HeldOut,
    Lite0Features,
    measure_in_fixed_features,
    measure_reconstructions,
)
from pipelines.evaluation.samples import measure_samples
from pipelines.evaluation.tokenizer import Metrics, Subject, measure_tokenizer
from pipelines.evaluation.wording import TITLES, Sections, reading, remarks, rows
from pipelines.generator import Generator
from pipelines.inputs.labels import as_trained
from pipelines.report.build import write_report
from pipelines.tasks.sample import asked_for, check, default_name, say_guidance, write_samples
from pipelines.training.images import change_of_images, image_content, own_or_other_images
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_json, write_json
from stage1_vqvae.networks.lite0 import is_installed
from stage2_prior.code_store.manifest import digest_of


def evaluate(settings: Settings) -> Path:
    """Measure the run in ``settings["model"]``; write the run's report and ``evaluation.json``, whose path it returns.

    Parts that an earlier evaluation of the same settings has measured are read from its files. Other settings have
    another folder.
    """
    run = RunFolder(Path(settings["model"]))
    network = build(settings["network"], "network", settings["trust"])
    device = build(settings["hardware"], "hardware").device
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    generator = Generator.load(run.path, device, settings["trust"]) if finished(run.prior) else None
    if generator and settings["output"] is None:
        set_aside_stale(run, generator.fingerprint)
    images = own_or_other_images(run, settings)
    names = generator.class_names if generator else ()
    check_classes(names, images)
    asked = checked(generator, settings)
    prior = generator.prior if generator else None
    subject = Subject(tokenizer.to(device), prior, names, images, settings["batch_size"], settings["seed"])
    output = Path(settings["output"] or run.evaluations / folder_name(run, settings, asked, images))
    made = made_by(saved, generator, settings, asked, images)
    products = [output / "parts", output / "samples", output / COPIES, output / "evaluation.json"]
    Claim(output / SETTINGS, made, "set of metrics", products, trust=settings["trust"]).take()

    trained: TrainedNetwork = network.load(network_folder(output, images, settings), images, settings["seed"], device)
    features: Features = trained if settings["features"] == "own" else InceptionFeatures(device)
    fixed = HeldOut(subject, Lite0Features(device)) if is_installed() else None
    measures = measures_of_images(subject, features, fixed)
    if generator is not None and settings["n"] > 0:
        write_samples(generator, output / "samples", settings, asked, labels_of_samples(generator, settings))
        measures |= measures_of_samples(subject, output, features, trained, fixed)
    sections: dict[str, Metrics] = {}
    for part, measure in measures.items():
        for section, metrics in once(output / "parts" / f"{part}.json", measure).items():
            sections[section] = sections.get(section, {}) | metrics
    if collectives.rank() == 0:
        words = {"reading": reading(sections), "remarks": remarks(sections)}
        write_json(output / "evaluation.json", {**sections, **words})
        show(sections)
        write_report(run)
    collectives.barrier()
    console.print(f"{output / 'evaluation.json'}\n{run.report}")
    return output / "evaluation.json"


Measure = Callable[[], dict[str, Metrics]]
"""Measures a part of an evaluation: metrics by section."""


def measures_of_images(subject: Subject, features: Features, fixed: HeldOut | None) -> dict[str, Measure]:
    """What measures a run on held-out images, by the name of the part; fixed features where they are installed."""
    measures: dict[str, Measure] = {"tokenizer": partial(measure_tokenizer, subject, features)}
    if fixed:
        measures["reconstructions"] = partial(measure_reconstructions, fixed)
    return measures


def measures_of_samples(
    subject: Subject, output: Path, features: Features, network: TrainedNetwork, fixed: HeldOut | None
) -> dict[str, Measure]:
    """What measures the samples of an evaluation's folder, by the name of the part."""
    path = output / "samples" / "images.npz"
    measures: dict[str, Measure] = {"samples": partial(measure_samples, subject, path, features, network)}
    if fixed:
        measures["fixed_features"] = partial(measure_in_fixed_features, fixed, path)
        measures["copies"] = partial(measure_copies, subject, path, fixed.features, output / COPIES)
    return measures


def once(path: Path, measure: Measure) -> dict[str, Metrics]:
    """Metrics of a part by section, from the file ``path``; measured by all processes where there is none yet."""
    done = path.exists()
    collectives.barrier()  # all have looked before any writes
    if not done:
        found = measure()
        if collectives.rank() == 0:
            write_json(path, found)
        collectives.barrier()
    return read_json(path)


def checked(generator: Generator | None, settings: Settings) -> dict[str, Any]:
    """The sampling settings asked for.

    Raises:
        ValueError: If samples cannot be drawn so.
    """
    for name, least in (("n", 0), ("batch_size", 1)):
        if settings[name] < least:
            raise ValueError(f"{name} is at least {least}, got {settings[name]}")
    if settings["n"] == 1:
        raise ValueError("n: two samples at least can be compared with images, or 0 for none, got 1")
    asked = asked_for(settings)
    if generator is not None and settings["n"] > 0:
        check(generator, settings)
        say_guidance(generator, asked)
    return asked


def labels_of_samples(generator: Generator, settings: Settings) -> NDArray[np.int64] | None:
    """Classes of the samples, with the shares of the training images: even ones would be another distribution.

    None leaves them to ``settings["label"]``: if it is given, or the classes are even or their numbers not known.
    """
    counts = generator.class_counts
    if settings["label"] is not None or len(set(counts) - {0}) <= 1:
        return None
    return as_trained(settings["n"], counts)


def check_classes(names: tuple[str, ...], images: ImageData) -> None:
    """Raise ValueError if the images have classes, and not the prior's."""
    if names and images.class_names and tuple(images.class_names) != names:
        raise ValueError(
            f"data: images of the prior's {len(names)} classes expected ({', '.join(names[:3])}, …), "
            f"got {len(images.class_names)} ({', '.join(images.class_names[:3])}, …); or give them without labels"
        )


def made_by(
    saved: Saved, generator: Generator | None, settings: Settings, asked: dict[str, Any], images: ImageData
) -> dict[str, Any]:
    """What an evaluation depends on."""
    sampling = generator.settings_with(**asked).plain() if generator else {}
    return {
        "tokenizer": saved.fingerprint,
        "prior": generator.fingerprint if generator else None,
        "data": {"train": images.train.description, "validation": images.validation.description},
        **{name: settings[name] for name in ("n", "label", "seed", "features", "network")},
        "sampling": sampling,
    }


def folder_name(run: RunFolder, settings: Settings, asked: dict[str, Any], images: ImageData) -> str:
    """Name of the evaluation's folder, which differs between settings."""
    parts = [default_name(settings, asked)]
    if settings["features"] != "own":
        parts.append(settings["features"])
    if change_of_images(run, images):
        parts.append(f"data{digest_of(image_content(images))[:8]}")
    return "_".join(parts)


def network_folder(output: Path, images: ImageData, settings: Settings) -> Path:
    """Folder of the network whose features are compared; evaluations on the same images share it."""
    seen = {"data": images.train.description, "augmentation": images.augmentation.describe()}
    trained_by = {name: settings[name] for name in ("seed", "network")}
    return output.parent / "networks" / digest_of(seen | trained_by)[:8]


def show(sections: Sections) -> None:
    """Print all metrics as a table, what they say, and remarks."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for section, metrics in sections.items():
        table.add_row(f"[bold]{TITLES[section]}[/]")
        for row in rows(metrics):
            table.add_row(f"  {row.name}", row.shown, f"[dim]{row.meaning}[/]")
    console.print(table)
    console.print(reading(sections))
    for remark in remarks(sections):
        console.print(f"[dim]{remark}[/]")
