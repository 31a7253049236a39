"""Write the codes of all images with a trained tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.artifacts.models import Saved, load_tokenizer
from pipelines.artifacts.run_folder import RunFolder, dependents
from pipelines.cli.console import console
from pipelines.cli.kernel import tracked
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings, stage_seed
from pipelines.distributed import collectives
from pipelines.tasks.taken_tokenizer import with_tokenizer
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.tracking.job import Job
from pipelines.tracking.lineage import log_codes
from pipelines.training.images import RunImages, check_same_images, image_content, image_settings, other_images
from stage1_vqvae.data.augmentation import Augmentation, normalize
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store.manifest import MANIFEST, PLAN, Manifest
from stage2_prior.code_store.writer import CodeStoreWriter

SPLITS = ("train", "validation")


def extract_codes(settings: Settings, images: RunImages | None = None) -> None:
    """Write the code stores of ``settings["output"]``, unless they are there; go on where it was after a kill.

    Args:
        settings: Of the command.
        images: Those of the settings, where the caller has opened them.

    Raises:
        ValueError: If a setting is wrong, or other settings or other images made what is there.
    """
    settings = with_tokenizer(settings)
    images = images or RunImages(settings)
    run = RunFolder(Path(settings["output"]))
    if settings.get("tokenizer"):
        train_stage1(settings, images)  # takes it
    hardware = build(settings["hardware"], "hardware")
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    copies = check_copies(settings)
    sources = {
        "tokenizer": saved.codes_fingerprint,
        "data": image_settings(settings),
        "copies": copies,
        "seed": stage_seed(settings, "stage1"),
    }
    if all((run.codes(split) / MANIFEST).exists() for split in SPLITS):
        codes_claim(run, settings, sources, images.if_there).check()
        console.print(f"[green]✓[/] codes: already extracted ({run.path / 'codes'})")
        return
    codes_claim(run, settings, sources).check()
    check_same_images(run, images.opened, "give those, or another output=")
    codes_claim(run, settings, sources, images.opened).take()
    images.remember(run)
    tokenizer.to(hardware.device)
    with build(settings["logger"], "logger", settings["trust"]).track(Job.of(run.path, "extract", settings)) as loggers:
        for split, times in zip(SPLITS, (copies, 1), strict=True):
            if not (run.codes(split) / "manifest.json").exists():
                _extract_split(run.codes(split), split, times, tokenizer, saved, images.opened, settings)
        log_codes(loggers, run)
    console.print(f"[green]✓[/] codes: {tokenizer.layout.length} for each image ({run.path / 'codes'})")


def codes_claim(run: RunFolder, settings: Settings, sources: dict[str, Any], images: ImageData | None = None) -> Claim:
    """What makes a run's codes; the images' content is compared where they are given."""
    return Claim(
        run.path / "codes" / SETTINGS,
        {**sources, **({"images": image_content(images)} if images else {})},
        "set of codes",
        products=[run.codes(split) / name for split in SPLITS for name in (PLAN, MANIFEST)],
        dependents=dependents(run, "codes"),
        trust=settings["trust"],
        names={"copies": "codes.copies", "seed": "stage1.seed"},
        other_images=other_images(run, images) if images else None,
    )


def check_copies(settings: Settings) -> int:
    """Number of codes that each training image gets."""
    copies = settings["codes"]["copies"]
    if not isinstance(copies, int) or copies < 1:
        raise ValueError(f"codes.copies is at least 1, got {copies}")
    return copies


def _extract_split(
    folder: Path, split: str, copies: int, tokenizer: Tokenizer, saved: Saved, images: ImageData, settings: Settings
) -> None:
    data: Any = getattr(images, split)
    manifest = Manifest(
        tokenizer=saved.codes_fingerprint,
        layout=tokenizer.layout,
        data=data.description,
        augmentation={"copies": copies, **(images.augmentation.describe() if copies > 1 else {})},
        class_names=images.class_names,
        count=copies * len(data),
    )
    if collectives.rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    collectives.barrier()
    writer = CodeStoreWriter(folder, manifest)
    collectives.barrier()
    # By the shard's number, not its place among the missing: that moves while other ranks write.
    mine = [shard for shard in writer.missing() if shard % collectives.ranks() == collectives.rank()]
    batches = [
        (shard, range(start, min(start + settings["batch_size"], writer.rows(shard).stop)))
        for shard in mine
        for start in writer.rows(shard)[:: settings["batch_size"]]
    ]
    codes: list[Tensor] = []
    labels: list[Tensor] = []
    for shard, rows in tracked(batches, f"codes of {split}"):
        batch = data.__getitems__(list(rows))
        augmentation = images.augmentation if rows.stop > len(data) else None  # only first copies before
        codes.append(_encode(tokenizer, augmentation, batch, len(data), stage_seed(settings, "stage1")))
        labels.append(batch["labels"])
        if rows.stop == writer.rows(shard).stop:
            writer.write(shard, torch.cat(codes), torch.cat(labels))
            codes, labels = [], []
    collectives.barrier()
    if collectives.rank() == 0:
        writer.publish()
    collectives.barrier()


@torch.no_grad()
def _encode(
    tokenizer: Tokenizer, augmentation: Augmentation | None, batch: dict[str, Tensor], examples: int, seed: int
) -> Tensor:
    """Codes ``[B, T]`` of a batch; the first copy of an image is the image itself, further ones are augmented."""
    device = next(tokenizer.parameters()).device
    pixels, draws = (batch[name].to(device, non_blocking=True) for name in ("images", "draws"))
    images = normalize(pixels)
    if augmentation is not None:
        first_copy = (draws < examples)[:, None, None, None]
        images = torch.where(first_copy, images, augmentation(pixels, draws, seed))
    return tokenizer.encode(images).cpu()
