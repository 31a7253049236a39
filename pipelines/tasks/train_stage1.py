"""Train a tokenizer on images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from pipelines.artifacts.run_folder import RunFolder, dependents
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings, stage_seed
from pipelines.tasks.taken_tokenizer import take_tokenizer, with_tokenizer
from pipelines.tasks.tokenizer_stage import Subject, TokenizerStage
from pipelines.training.callbacks import callback_settings
from pipelines.training.collapse_advice import advice, collapsed
from pipelines.training.images import RunImages, image_content, image_settings, other_images
from pipelines.training.variance import with_variance
from pipelines.training.warm_start import init_fingerprint, warm_start
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.dataset import ImageData

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
    seed_everything(stage_seed(settings, "stage1"), verbose=False)  # before the model's random start
    model = build(settings["stage1"]["model"], "stage1.model", settings["trust"])
    stage = TokenizerStage(settings, images, partial(tokenizer_claim, run, settings))
    if stage.is_done():
        return
    if settings.get("tokenizer"):
        stage.begin()
        take_tokenizer(run, settings)
        return
    warm_start(model, "stage1", settings)
    config = {"model": settings["stage1"]["model"]}
    metrics = stage.train(Subject("stage 1: tokenizer", model, model, config))
    say_metrics(metrics, settings["stage1"], model.layout, len(images.opened.validation))


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
        other_images=other_images(run, images) if images else None,
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
