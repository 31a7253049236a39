"""Both stages, from images to new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.artifacts.levels import missing_levels
from pipelines.artifacts.models import recipe
from pipelines.artifacts.provenance import write_record
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.artifacts.stale import set_aside_stale
from pipelines.budget.afterwards import before_stage2
from pipelines.budget.plan import Planner
from pipelines.cli.console import console
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.distributed.devices import made_on_meta
from pipelines.generator import Generator
from pipelines.inputs.labels import check_trained, class_numbers
from pipelines.report.build import write_report
from pipelines.sweep.early_end import early_end
from pipelines.sweep.shared_stage1 import share_stage1
from pipelines.sweep.shared_stage2 import exchange_levels, shared_prior
from pipelines.tasks.extract_codes import SPLITS, check_copies, extract_codes
from pipelines.tasks.sample import asked_for, say_guidance, write_samples
from pipelines.tasks.taken_tokenizer import with_tokenizer
from pipelines.tasks.train_stage1 import tokenizer_claim, train_stage1
from pipelines.tasks.train_stage2 import train_stage2
from pipelines.tracking.base import media_loggers
from pipelines.tracking.csv import Csv
from pipelines.tracking.job import Job
from pipelines.tracking.lineage import prior_artifact, samples_artifact, tokenizer_artifact
from pipelines.training.callbacks import callbacks
from pipelines.training.images import RunImages, check_batch_size
from pipelines.training.optimization import Optimization
from pipelines.training.stage_trainer import refuse_ema_with_fsdp
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.lightning_module import PriorTraining


def run(settings: Settings) -> None:
    """Every step of ``settings["output"]`` that is not done yet."""
    folder = RunFolder(Path(settings["output"]))
    settings = with_tokenizer(settings)
    planner = Planner(settings)
    settings, images = planner.whole(RunImages(settings))
    check(settings)
    check_with_images(folder, settings, images)
    share_stage1(settings, images)
    with before_stage2(settings):
        train_stage1(settings, images)
        extract_codes(settings, images)
    settings = planner.prior(settings)
    with shared_prior(settings):
        train_stage2(settings)
    exchange_levels(settings)
    if left := missing_levels(folder):
        console.print(
            f"\nstill to train before samples can be drawn: {', '.join(f'stage2.level={grid}' for grid in left)}"
        )
        return
    generator = Generator.load(folder.path, build(settings["hardware"], "hardware").device, settings["trust"])
    set_aside_stale(folder, generator.fingerprint)
    sample(generator, folder, settings)
    if collectives.rank() == 0:
        write_record(folder.path, settings)
        write_report(folder)
    console.print(f"\nsamples  {folder.samples / 'grid.png'}\nreport   {folder.report}")


def check_with_images(run: RunFolder, settings: Settings, images: RunImages) -> None:
    """Find out, before the first stage starts, what the number of images and their classes do not allow in any.

    Raises:
        ValueError: If a batch is larger than the training set, a class that is asked for has no training images, or
            the run's tokenizer is of other settings.
    """
    if all((run.codes(split) / MANIFEST).exists() for split in SPLITS):
        return
    tokenizer_claim(run, settings).check()  # before images are decoded, which may take long
    found = images.if_there if finished(run.tokenizer) else images.opened
    if found is not None:
        trained = {"stage1": 1} if not settings.get("tokenizer") else {}
        for stage, copies in {**trained, "stage2": settings["codes"]["copies"]}.items():
            check_batch_size(stage, settings[stage]["batch_size"], len(found.train), copies)
        if settings["label"] is not None:
            counts = found.train.class_counts(len(found.class_names))
            check_trained(class_numbers(settings["label"], found.class_names), found.class_names, counts)


def sample(generator: Generator, folder: RunFolder, settings: Settings) -> None:
    """Draw what the recipe says and show it to the trackers, once."""
    drawn = (folder.samples / "images.npz").exists()
    tracker = Csv() if drawn else build(settings["logger"], "logger", settings["trust"])
    with tracker.track(Job.of(folder.path, "sample", settings)) as loggers:
        if not drawn:
            say_guidance(generator, asked_for(settings))
        write_samples(generator, folder.samples, settings, asked_for(settings))
        for logger in media_loggers(loggers):
            with Image.open(folder.samples / "grid.png") as image:
                logger.log_image("samples", [image], 0)
            logger.log_lineage(samples_artifact(folder), [prior_artifact(folder), tokenizer_artifact(folder)])


def check(settings: Settings) -> None:
    """Build whatever the settings describe, so that a mistake in the last stage is found before the first starts.

    Raises:
        ValueError: If something does not fit.
    """
    trust = settings["trust"]
    for stage in ("stage1", "stage2"):
        callbacks(settings, stage)
        early_end(settings, stage)
        build(settings[stage]["optimization"], f"{stage}.optimization", trust)
        trainer = build(settings[stage]["trainer"], f"{stage}.trainer")
    if build(settings["hardware"], "hardware").sharded:
        refuse_ema_with_fsdp(trainer)
    build(settings["data"], "data", trust)
    build(settings["stage1"]["objective"], "stage1.objective", trust)
    check_parts(settings["stage1"].get("training") or {}, "stage1.training", trust)
    made_on_meta(partial(check_models, settings))  # sizes are checked; drawing weights takes seconds of a large model
    build(settings["logger"], "logger", trust)
    sampling = recipe(settings["sampling"], trust)
    if sampling.guidance != 1 and settings["stage2"]["label_dropout"] == 0:
        raise ValueError(
            f"sampling.guidance={sampling.guidance} needs a prior that also learned images without their labels: "
            "stage2.label_dropout=0.1, say, or sampling.guidance=1"
        )
    check_copies(settings)
    for key in ("n", "batch_size"):
        if settings[key] < 1:
            raise ValueError(f"{key} is at least 1, got {settings[key]}")


def check_parts(node: Mapping[str, Any], path: str, trust: Sequence[str]) -> None:
    """Build what a node describes for its target, which itself needs more."""
    for key, value in node.items():
        build(value, f"{path}.{key}", trust)


def check_models(settings: Settings) -> None:
    """Build the models of both stages.

    Raises:
        ValueError: If something does not fit.
    """
    trust, stage2 = settings["trust"], settings["stage2"]
    layout = build(settings["stage1"]["model"], "stage1.model", trust).layout
    prior = build(stage2["model"], "stage2.model", trust, layout=layout, num_classes=0)
    optimization = build(stage2["optimization"], "stage2.optimization", trust)
    level = stage2.get("level")
    part = prior if level is None else prior.level(level)
    PriorTraining(part, stage2["label_dropout"], 0.0, optimization, stage2.get("random_order"))
    if isinstance(optimization, Optimization):
        optimization.check(part)
