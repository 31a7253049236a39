"""Posterior collapse and its absence, with one and the same decoder.

A Gaussian VAE and a VQ-VAE, each with the same encoder and the same autoregressive decoder of pixels, on black and
white digits: what of the latents is used, and what is drawn given an image's latents.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import seed_everything
from rich.table import Table
from torch import Tensor

from pipelines.artifacts.models import Saved, save_model
from pipelines.artifacts.run_folder import finished
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.posterior_collapse.latent_pixels import LatentPixelModel, LatentPixelTraining, black_and_white
from pipelines.tracking.image_grid import save_image, strip_of_pairs
from pipelines.training.data import EvaluationOrder, StageData
from pipelines.training.fit import fit
from pipelines.training.images import image_content, image_settings, open_images
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.data.dataset import ImageSplit
from stage1_vqvae.devices import in_float64
from stage1_vqvae.files import read_json, write_json

DRAWN = 32
"""Held-out images that are drawn once more."""

MEANINGS = {
    "nats": "of an image's pixels, given its own latents",
    "shuffled_nats": "given another image's latents",
    "gain": "nats that an image's own latents save: what they tell the decoder",
    "rate": "nats that the latents may carry: KL from the prior, or entropy of the codes",
    "usage": "share of the codebook that occurs",
    "perplexity": "size of an evenly used codebook of as much information",
    "drawn_error": "share of pixels that differ when an image is drawn given its latents",
    "shuffled_error": "share of pixels in which another image differs",
}


def collapse(settings: Settings) -> None:
    """Train ``settings["autoencoder"]``, unless that is done, and measure what its latents are used for."""
    output = Path(settings["output"])
    model = build(settings["autoencoder"], "autoencoder", settings["trust"])
    optimization = build(settings["optimization"], "optimization", settings["trust"])
    trainer = build(settings["trainer"], "trainer")
    hardware = build(settings["hardware"], "hardware")
    depends = {name: settings[name] for name in ("autoencoder", "optimization", "trainer", "batch_size", "seed")}
    images = open_images(settings)
    Claim(
        output / SETTINGS,
        {**depends, "data": image_settings(settings), "images": image_content(images)},
        "collapse experiment",
        products=[output / "config.yaml"],
        checkpoints=output / "checkpoints",
        trust=settings["trust"],
    ).take()
    if not finished(output):
        seed_everything(settings["seed"], verbose=False)
        model = build(settings["autoencoder"], "autoencoder", settings["trust"])  # its random start is the seed's
        module = LatentPixelTraining(model, optimization)
        data = StageData(images.train, images.validation, settings["batch_size"], settings["seed"], images.workers)
        fit("collapse", module, data, output / "checkpoints", trainer, hardware, [])
        if collectives.rank() == 0:
            save_model(output, "latent_pixels", model, {"model": settings["autoencoder"]}, settings["trust"])
        collectives.barrier()
    Saved.open(output, "latent_pixels").load_weights(model)
    if collectives.rank() == 0:
        model.eval().to(hardware.device)
        write_json(output / "collapse.json", measure(model, images.validation, settings["seed"]))
        draw(model, images.validation, settings["seed"], output)
        show(output)
    collectives.barrier()


@torch.no_grad()
def measure(model: LatentPixelModel, data: ImageSplit, seed: int) -> dict[str, float]:
    """Means over the split, in nats per image, and how much of the codebook is used."""
    torch.manual_seed(seed)
    sums: dict[str, float] = {"nats": 0.0, "shuffled_nats": 0.0, "rate": 0.0}
    codes = []
    order = np.random.default_rng(seed).permutation(len(data)).tolist()
    for batch in EvaluationOrder(len(data), 100):
        pixels = pixels_of(model, data, [order[index] for index in batch])
        latents = model.latents(pixels)
        sums["nats"] += float(model.decoder.nats(pixels, latents.vectors).sum())
        sums["shuffled_nats"] += float(model.decoder.nats(pixels, latents.vectors.roll(1, 0)).sum())
        sums["rate"] += float(latents.rate.sum())
        if latents.codes is not None:
            codes.append(latents.codes.flatten(1))
    means = {name: value / len(data) for name, value in sums.items()}
    means["gain"] = means["shuffled_nats"] - means["nats"]
    return means | (use_of(torch.cat(codes), model) if codes else {})


def use_of(codes: Tensor, model: LatentPixelModel) -> dict[str, float]:
    """Entropy of ``codes [N, T]`` taken as independent, in nats per image, and use of the codebook."""
    size = model.bottleneck.codebook_size
    shares = in_float64(torch.bincount(codes.flatten(), minlength=size)) / codes.numel()
    entropy = float(torch.special.entr(shares).sum())
    return {
        "rate": entropy * codes.shape[1],
        "usage": float(in_float64(shares > 0).mean()),
        "perplexity": math.exp(entropy),
    }


@torch.no_grad()
def draw(model: LatentPixelModel, data: ImageSplit, seed: int, output: Path) -> None:
    """Draw held-out images once more, given their latents: a picture, and the share of pixels that differ."""
    torch.manual_seed(seed)
    spread = np.linspace(0, len(data) - 1, min(DRAWN, len(data))).astype(int).tolist()
    pixels = pixels_of(model, data, spread)
    drawn = model.decoder.draw(model.latents(pixels).vectors, seed)
    errors = {
        "drawn_error": float((drawn != pixels).float().mean()),
        "shuffled_error": float((pixels.roll(len(pixels) // 2, 0) != pixels).float().mean()),
    }
    write_json(output / "collapse.json", {**read_json(output / "collapse.json"), **errors})
    strip = strip_of_pairs(*(to_uint8(2 * part.cpu() - 1).numpy() for part in (pixels, drawn)))
    save_image(strip, output / "drawn.png")


def pixels_of(model: LatentPixelModel, data: Any, indices: list[int]) -> Tensor:
    """Black and white images ``[B, 1, H, W]`` on the model's device."""
    return black_and_white(data.__getitems__(indices)["images"].to(next(model.parameters()).device))


def show(output: Path) -> None:
    """Print the metrics of this model and of those that lie beside it."""
    found = {path.parent.name: read_json(path) for path in sorted(output.parent.glob("*/collapse.json"))}
    table = Table("nats per image", *found, "meaning", box=None, pad_edge=False)
    for name, words in MEANINGS.items():
        cells = [f"{metrics[name]:.4g}" if name in metrics else "" for metrics in found.values()]
        table.add_row(name, *cells, f"[dim]{words}[/]")
    console.print(table)
    console.print(f"{output / 'drawn.png'}\n{output / 'collapse.json'}")
