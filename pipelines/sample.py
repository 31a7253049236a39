"""``python -m pipelines.sample``: draw new images from a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from pipelines import processes
from pipelines.building import build
from pipelines.command import Settings, command, console
from pipelines.generator import Generator, Samples
from pipelines.pictures import grid, save_picture
from pipelines.settings import claim
from stage1_vqvae.augmentation import to_uint8
from stage2_prior.files import replacing

RECIPE = "recipe"
"""Value of a sampling setting that leaves it to the recipe which trained the prior."""


def sample_command(settings: Settings) -> None:
    """Sample from ``settings["model"]``."""
    model = Path(settings["model"])
    asked = {name: value for name, value in settings["sampling"].items() if value != RECIPE}
    output = Path(settings["output"] or model / "samples" / default_name(settings, asked))
    hardware = build(settings["trainer"], "trainer")
    generator = Generator.load(model, hardware.device, settings["trust"])
    write_samples(generator, output, settings, asked)
    console.print(f"{output / 'grid.png'}\n{output / 'images.npz'}")


def write_samples(generator: Generator, output: Path, settings: Settings, asked: Mapping[str, Any]) -> None:
    """Draw ``settings["n"]`` images into a folder, unless the same settings did."""
    n, label, seed = settings["n"], settings["label"], settings["seed"]
    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    generator.labels(1, label)  # a class that does not exist is refused before anything is written
    chosen = generator.settings_with(**asked)
    claim(output / "settings.yaml", {"n": n, "label": label, "seed": seed, **vars(chosen)}, "set of samples")
    if (output / "images.npz").exists():
        console.print(f"[green]✓[/] samples: already drawn ({output})")
        return
    if processes.rank() == 0:
        with Progress(console=console) as bar:
            task = bar.add_task("samples", total=n)
            samples = generator.sample(n, label, seed, settings["batch_size"], lambda k: bar.advance(task, k), **asked)
        save_samples(samples, output)
    processes.barrier()
    console.print(f"[green]✓[/] samples: {n} images")


def save_samples(samples: Samples, output: Path, columns: int = 10) -> None:
    """Write ``grid.png`` (of the first 100) and ``images.npz``."""
    images = to_uint8(samples.images * 2 - 1).numpy()
    save_picture(grid(images[:100], min(columns, len(images))), output / "grid.png")
    with replacing(output / "images.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=images, labels=samples.labels.numpy(), codes=samples.codes.numpy())


def default_name(settings: Settings, asked: Mapping[str, Any]) -> str:
    """A folder's name that says what was asked for, so that other settings lie elsewhere."""
    label = settings["label"]
    several = "-".join(map(str, label)) if isinstance(label, list) else label
    parts = [f"n{settings['n']}", f"seed{settings['seed']}"] + ([] if label is None else [f"label{several}"])
    return "_".join([*parts, *(f"{name}{value}" for name, value in asked.items())])


main = command("sample")(sample_command)

if __name__ == "__main__":
    main()
