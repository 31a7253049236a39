"""Draw new images from a trained run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.run_folder import RunFolder
from pipelines.artifacts.sample_parts import Parts
from pipelines.artifacts.stale import product_folder
from pipelines.cli.console import console
from pipelines.cli.kernel import progress
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.generator import Generator
from pipelines.tracking.image_grid import grid, save_image
from stage2_prior.sampling import SamplingSettings
from stage2_prior.sampling.guidance import idle_guidance

RECIPE = "recipe"
"""Value of a sampling setting that leaves it to the recipe which trained the prior."""

SHOWN = 100
"""Images in the picture."""


def sample_command(settings: Settings) -> Path:
    """Sample from ``settings["model"]``; returns the folder of the samples."""
    return draw(settings, "samples", default_name, write_samples)


def draw(
    settings: Settings,
    kind: str,
    name: Callable[[Settings, Mapping[str, Any]], str],
    write: Callable[[Generator, Path, Settings, Mapping[str, Any]], None],
) -> Path:
    """Draw with the run of ``settings["model"]`` into ``settings["output"]``, or a folder of the run.

    Args:
        settings: Of the command.
        kind: Folder of the run for what is drawn.
        name: Of a folder below it, for the settings and the sampling settings that are not the recipe's.
        write: Draws with a generator into a folder.

    Returns:
        The folder that was written to.
    """
    model = Path(settings["model"])
    asked = asked_for(settings)
    generator = Generator.load(model, build(settings["hardware"], "hardware").device, settings["trust"])
    say_guidance(generator, asked)
    output = Path(settings["output"] or folder_of(generator, model, kind) / name(settings, asked))
    write(generator, output, settings, asked)
    console.print(f"{output / 'grid.png'}\n{output / 'images.npz'}")
    return output


def folder_of(generator: Generator, model: Path, name: str) -> Path:
    """The folder of a run for what its prior makes, ``samples`` say."""
    return product_folder(RunFolder(model), name, generator.fingerprint, generator.step)


def write_samples(
    generator: Generator,
    output: Path,
    settings: Settings,
    asked: Mapping[str, Any],
    labels: NDArray[np.int64] | None = None,
) -> None:
    """Draw ``settings["n"]`` images into a folder, unless the same settings did.

    All processes of the command share the work and write each batch as it is finished; what a killed command left is
    not drawn again. The files are the same for any batch size and number of processes.

    Args:
        generator: Draws them.
        output: The folder.
        settings: Of the command.
        asked: Sampling settings in place of the recipe's.
        labels: Class of each image; None for those of ``settings["label"]``.

    Raises:
        ValueError: If a setting is wrong, or the folder holds samples of other settings or of another prior.
    """
    n, label, seed = settings["n"], settings["label"], settings["seed"]
    check(generator, settings)
    made_by = {**generator.settings_with(**asked).plain(), "prior": generator.fingerprint}
    named = {"n": n, "label": label, "seed": seed, **larger_sides(settings)}
    named |= {} if labels is None else {"of_class": np.bincount(labels).tolist()}
    products = [output / "images.npz", output / "parts"]
    made = {**named, **made_by}
    Claim(output / SETTINGS, made, "set of samples", products, defaults=SamplingSettings().plain()).take()
    if (output / "images.npz").exists():
        shutil.rmtree(output / "parts", ignore_errors=True)  # of a command killed at its very end
        console.print(f"[green]✓[/] samples: already drawn ({output})")
        return
    # Another kind of device rounds otherwise: its images are as good, but a set is of one kind.
    parts = Parts(output / "parts" / generator.device.type)
    draw_parts(generator, parts, settings, asked, labels)
    collectives.barrier()
    if collectives.rank() == 0:
        save_image(grid(parts.first_images(min(n, SHOWN)), min(n, 10)), output / "grid.png")
        parts.assemble(n, output / "images.npz")
        shutil.rmtree(output / "parts")
    collectives.barrier()
    console.print(f"[green]✓[/] samples: {n} images")


def check(generator: Generator, settings: Settings) -> None:
    """Raise ValueError if what is asked for cannot be drawn, before anything is written."""
    for name in ("n", "batch_size"):
        if settings[name] < 1:
            raise ValueError(f"{name} is at least 1, got {settings[name]}")
    if not 0 <= settings["seed"] < 2**64:
        raise ValueError(f"seed is from 0 to 2^64 - 1, got {settings['seed']}")
    generator.labels(1, settings["label"])
    generator.larger_grid(image_size(generator, settings))


def say_guidance(generator: Generator, asked: Mapping[str, Any]) -> None:
    """Say that guidance changes nothing, if the recipe or the command asks it of a prior without classes."""
    if said := idle_guidance(generator.prior, generator.settings_with(**asked)):
        console.print(f"[yellow]![/] {said}")


def larger_sides(settings: Settings) -> dict[str, Any]:
    """The sides, ``height`` and ``width`` in pixels, that are not to be the run's own."""
    return {side: settings[side] for side in ("height", "width") if settings.get(side) is not None}


def image_size(generator: Generator, settings: Settings) -> tuple[int, int]:
    """Height and width of the images, in pixels.

    Raises:
        ValueError: If a side is not a whole number.
    """
    asked = larger_sides(settings)
    for side, pixels in asked.items():
        if not isinstance(pixels, int):
            raise ValueError(f"{side} is a number of pixels, or null for the run's own, got {pixels}")
    height, width = generator.tokenizer.image_size
    return asked.get("height", height), asked.get("width", width)


def draw_parts(
    generator: Generator,
    parts: Parts,
    settings: Settings,
    asked: Mapping[str, Any],
    labels: NDArray[np.int64] | None = None,
) -> None:
    """Draw this process's share of the images that are not there yet."""
    n, rank, ranks = settings["n"], collectives.rank(), collectives.ranks()
    size = generator.whole_microbatches(min(settings["batch_size"], -(-n // ranks)))
    missing = parts.missing(n, size)
    collectives.barrier()  # all have looked before any writes, so that they agree on what is missing
    with progress("samples", n, n - sum(map(len, missing)), "images") as shown:
        for batch in missing[rank::ranks]:
            samples = generator.sample(
                len(batch),
                # Classes are taken in turn from image 0 on, so those of a batch are rotated to where it begins.
                settings["label"] if labels is None else np.roll(labels[batch.start : batch.stop], batch.start),
                settings["seed"],
                size,
                lambda images: shown.advance(images * ranks),  # the others are about as far
                first=batch.start,
                image_size=image_size(generator, settings),
                **asked,
            )
            parts.write(batch.start, samples)


def asked_for(settings: Settings) -> dict[str, Any]:
    """The sampling settings that are not left to the recipe; processors are built."""
    asked = {name: value for name, value in settings["sampling"].items() if value != RECIPE}
    return {name: build(value, f"sampling.{name}", settings["trust"]) for name, value in asked.items()}


def setting_parts(settings: Mapping[str, Any]) -> list[str]:
    """What a folder's name says of settings: ``top_k50``, and of rules of one's own their names."""
    return [f"{name}{_word(value)}" for name, value in settings.items()]


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(_word, value))
    return str(value) if value is None or isinstance(value, str | int | float) else type(value).__name__


def label_part(settings: Settings) -> list[str]:
    """What a folder's name says of the classes asked for: nothing if they are all."""
    label = settings["label"]
    return [] if label is None else ["label" + ("-".join(map(str, label)) if isinstance(label, list) else str(label))]


def default_name(settings: Settings, asked: Mapping[str, Any]) -> str:
    """A folder's name that says what was asked for, so that other settings lie elsewhere."""
    parts = [f"n{settings['n']}", f"seed{settings['seed']}", *label_part(settings)]
    return "_".join([*parts, *setting_parts({**larger_sides(settings), **asked})])
