"""Train a tokenizer on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, seed_everything

from pipelines.artifacts.models import save_model
from pipelines.artifacts.run_folder import RunFolder, dependents, finished
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings, stage_seed
from pipelines.distributed import collectives
from pipelines.sweep.early_end import early_end
from pipelines.tasks.taken_tokenizer import take_tokenizer, with_tokenizer
from pipelines.tracking.base import media_loggers
from pipelines.tracking.earlier import set_aside_logs
from pipelines.tracking.image_logging import ReconstructionImages
from pipelines.tracking.job import Job
from pipelines.tracking.lineage import tokenizer_artifact
from pipelines.training.callbacks import callback_settings, callbacks
from pipelines.training.collapse_advice import advice, collapsed
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.images import RunImages, check_batch_size, describe_images, image_content, image_settings
from pipelines.training.more_steps import go_further
from pipelines.training.variance import with_variance
from pipelines.training.warm_start import init_fingerprint, warm_start
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import write_json

PLAIN = {"_target_": "stage1_vqvae.lightning_module.TokenizerTraining"}
"""What trains a tokenizer where ``stage1.training`` is null."""

NAMES = {
    "seed": "stage1.seed",
    "stage1.model.quantizer": "stage1.quantizer",
    "stage1.training.discriminator": "stage1.discriminator",
}
"""Keys that others are taken from."""


def train_stage1(settings: Settings, images: RunImages | None = None) -> None:
    """Train the tokenizer of ``settings["output"]``, unless that is done; go on where it was after a kill.

    Args:
        settings: Of the command.
        images: Those of the settings, where the caller has opened them.

    Raises:
        ValueError: If a setting is wrong, or other settings or other images made what is there.
    """
    settings = with_tokenizer(settings)
    images = images or RunImages(settings)
    run = RunFolder(Path(settings["output"]))
    trust = settings["trust"]
    stage, seed = settings["stage1"], stage_seed(settings, "stage1")
    seed_everything(seed, verbose=False)  # before the model's random start
    model = build(stage["model"], "stage1.model", trust)
    build(stage["objective"], "stage1.objective", trust)  # what is wrong with it is said before images are decoded
    optimization = build(stage["optimization"], "stage1.optimization", trust)
    trainer = build(stage["trainer"], "stage1.trainer")
    hardware = build(settings["hardware"], "hardware")
    own = [*callbacks(settings, "stage1"), *early_end(settings, "stage1")]
    tracker = build(settings["logger"], "logger", trust)
    if finished(run.tokenizer) and tokenizer_claim(run, settings).of_fewer_steps() is None:
        tokenizer_claim(run, settings, images.if_there).check()
        if images.if_there:
            images.remember(run)
        console.print(f"[green]✓[/] tokenizer: already trained ({run.tokenizer})")
        return

    tokenizer_claim(run, settings).check()  # before images are decoded, which may take long
    if settings.get("tokenizer"):
        begin(run, settings, images, optimization)
        take_tokenizer(run, settings)
        return
    warm_start(model, "stage1", settings)
    found = images.opened
    check_batch_size("stage1", stage["batch_size"], len(found.train))
    objective = build(with_variance(settings, run, found)["stage1"]["objective"], "stage1.objective", trust)
    data = StageData(found.train, found.validation, stage["batch_size"], seed, found.workers)
    parts = {"model": model, "objective": objective, "augmentation": found.augmentation, "optimization": optimization}
    more = {**parts, "seed": seed, "channels_last": hardware.channels_last}
    module = build(stage.get("training") or PLAIN, "stage1.training", trust, **more)
    begin(run, settings, images, optimization)
    pictures = ReconstructionImages(found.validation, run.pictures("stage1"))
    with tracker.track(Job.of(run.path, "stage1", settings)) as loggers:
        checkpoints = run.checkpoints("stage1")
        metrics = fit("stage 1: tokenizer", module, data, checkpoints, trainer, hardware, loggers, [pictures, *own])
        if collectives.rank() == 0:
            write_json(run.tokenizer / "metrics.json", metrics)
            save_discriminator(run, module, stage, trust)
            described = {"model": stage["model"], "data": describe_images(found)}
            save_model(run.tokenizer, "tokenizer", model, described, trust)
            for logger in media_loggers(loggers):
                logger.log_summary(metrics)
                logger.log_lineage(tokenizer_artifact(run), [])
    collectives.barrier()
    say_metrics(metrics, stage, model.layout, len(found.validation))


def begin(run: RunFolder, settings: Settings, images: RunImages, optimization: Any) -> None:
    """Write down what the tokenizer is made by and of; what another one has made or logged here is set aside."""
    claim = tokenizer_claim(run, settings, images.opened)
    claim.check()
    go_further(run, claim, optimization)
    if claim.take():
        set_aside_logs(run, "stage1")
    images.remember(run)


def say_metrics(metrics: dict[str, float], stage: Mapping[str, Any], layout: CodeLayout, images: int) -> None:
    """Print how well a tokenizer does on so many held-out images, and what to try if its codebook collapsed."""
    failed = collapsed(metrics, layout, images)
    mark = "[yellow]![/]" if failed else "[green]✓[/]"
    console.print(
        f"{mark} tokenizer: {metrics['psnr']:.2f} dB PSNR, {_percent(metrics, 'usage')} of codes in use, "
        f"perplexity {_listed(metrics, 'perplexity')} on {images} held-out images"
    )
    if failed:
        console.print(f"[yellow]![/] {advice(stage)}")


def save_discriminator(run: RunFolder, module: LightningModule, stage: Settings, trust: Sequence[str]) -> None:
    """Write what a tokenizer was trained against, if anything; it is no part of the tokenizer's fingerprint."""
    if "discriminator" in (stage.get("training") or {}):
        described = {"model": stage["training"]["discriminator"]}
        save_model(run.discriminator, "discriminator", module.get_submodule("discriminator"), described, trust)


def tokenizer_claim(run: RunFolder, settings: Settings, images: ImageData | None = None) -> Claim:
    """What makes a run's tokenizer; the images' content is compared where they are given."""
    seen = {"images": image_content(images)} if images else {}
    return Claim(
        run.tokenizer / SETTINGS,
        {**training_settings(with_variance(settings, run, images)), **seen},
        "tokenizer",
        products=[run.tokenizer / "model.safetensors", run.tokenizer / "config.yaml", run.discriminator],
        checkpoints=None if settings.get("tokenizer") else run.checkpoints("stage1"),
        dependents=dependents(run, "tokenizer"),
        trust=settings["trust"],
        names=NAMES,
        stage="stage1",
    )


def training_settings(settings: Settings) -> dict[str, Any]:
    """What a tokenizer depends on; where images are cached and on what is computed is not part of it."""
    if settings.get("tokenizer"):
        return {"taken_from": settings["taken_from"], "data": image_settings(settings)}
    elsewhere = ("quantizer", "levels", "discriminator", "seed", "init")  # in model or training, and below
    stage = {key: value for key, value in settings["stage1"].items() if key not in elsewhere}
    return {
        "data": image_settings(settings),
        "stage1": stage,
        "seed": stage_seed(settings, "stage1"),
        **init_fingerprint(settings, "stage1"),
        **callback_settings(settings, "stage1"),
    }


def _percent(metrics: dict[str, float], name: str) -> str:
    return ", ".join(f"{value:.0%}" for key, value in metrics.items() if key.startswith(name))


def _listed(metrics: dict[str, float], name: str) -> str:
    return ", ".join(f"{value:.0f}" for key, value in metrics.items() if key.startswith(name))
