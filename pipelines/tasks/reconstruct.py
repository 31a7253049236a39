"""Images beside what a trained tokenizer makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.cli.kernel import tracked
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.evaluation.batches import batches
from pipelines.tracking.image_grid import save_image, strip_of_pairs
from pipelines.training.data import EvaluationOrder
from pipelines.training.images import own_or_other_images
from stage1_vqvae.data.augmentation import normalize, to_uint8
from stage1_vqvae.files import write_json
from stage1_vqvae.metrics import CodeUse, reconstruction_quality
from stage1_vqvae.refinement import refined


@torch.no_grad()
def reconstruct(settings: Settings) -> Path:
    """Measure ``settings["model"]`` on the data's validation split and draw its first images.

    Returns:
        The file of the metrics.
    """
    run = RunFolder(Path(settings["model"]))
    tokenizer, _ = load_tokenizer(run.tokenizer, settings["trust"])
    device = build(settings["hardware"], "hardware").device
    data = own_or_other_images(run, settings).validation
    tokenizer.to(device)
    quality, use = reconstruction_quality().to(device), CodeUse(tokenizer.layout).to(device)

    def encode(images: Tensor) -> Tensor:
        return refined(tokenizer, images, tokenizer.encode(images), settings["refine"])

    order = EvaluationOrder(len(data), settings["batch_size"], collectives.rank(), collectives.ranks())
    for batch in batches(data, tracked(order, "reconstructions"), device):
        images = normalize(batch["images"])
        codes = encode(images)
        quality.update(tokenizer.decode(codes), images)
        use.update(codes)
    metrics = {name: float(value) for name, value in {**quality.compute(), **use.compute()}.items()}
    output = Path(settings["output"] or run.path / "reconstructions")
    if collectives.rank() == 0:
        shown = data.__getitems__(list(range(min(settings["n"], len(data)))))["images"]
        drawn = to_uint8(tokenizer.decode(encode(normalize(shown.to(device))))).cpu()
        save_image(strip_of_pairs(shown.numpy(), drawn.numpy()), output / "reconstructions.png")
        write_json(output / "metrics.json", metrics)
        console.print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        console.print(f"{output / 'reconstructions.png'}\n{output / 'metrics.json'}")
    collectives.barrier()
    return output / "metrics.json"
