"""Opens the images that a command's settings name, and says what it found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.cli.console import console
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.data.decoding import write_quarantine
from stage1_vqvae.files import replacing

WITHOUT_EFFECT = ("cache", "cache_gib", "workers", "max_bad")
"""Keys of ``data`` that say where and how images are decoded, and change none of them."""


def open_images(settings: Settings) -> ImageData:
    """Opens the images of ``settings["data"]``.

    The first rank decodes what is to be cached, lists what cannot be read in ``quarantine.csv`` of
    ``settings["output"]`` and says so; the other ranks then open the cache.

    Raises:
        ValueError: If a setting does not fit, or the images are missing or broken.
    """
    source = build(settings["data"], "data", settings["trust"])
    if collectives.rank() == 0:
        images = source.open()
        report_quarantine(images, settings.get("output"))
    collectives.barrier()
    return images if collectives.rank() == 0 else source.open()


def images_if_there(settings: Settings) -> ImageData | None:
    """The images that finished work was made of, to be compared with it; None if they are gone, which is said."""
    try:
        return open_images(settings)
    except (ValueError, OSError) as error:
        console.print(f"[yellow]![/] images not compared with those that were used: {error}")
        return None


def image_content(images: ImageData) -> dict[str, Any]:
    """Number and digest of the images and labels of each split, as plain data."""
    splits = {"train": images.train, "validation": images.validation}
    return {name: {key: split.description[key] for key in ("count", "digest")} for name, split in splits.items()}


def image_settings(settings: Settings) -> dict[str, Any]:
    """The keys of ``settings["data"]`` that change the images."""
    data: Mapping[str, Any] = settings["data"]
    return {key: value for key, value in data.items() if key not in WITHOUT_EFFECT}


def describe_images(images: ImageData) -> dict[str, Any]:
    """What the folder of a model says of the images that it was trained on, as plain data."""
    return {"train": images.train.description, "class_names": list(images.class_names)}


def report_quarantine(images: ImageData, output: str | None) -> None:
    """Prints how many images are left out, and lists them in ``quarantine.csv`` of the folder ``output`` if given."""
    bad = images.quarantine
    if not bad:
        return
    listed = f"the first is {bad[0].where} ({bad[0].reason})"
    if output is not None:
        path = Path(output) / "quarantine.csv"
        with replacing(path) as temporary:
            write_quarantine(temporary, bad)
        listed = f"see {path}"
    total = len(bad) + len(images.train) + len(images.validation)
    console.print(f"[yellow]![/] {len(bad)} of {total} images cannot be read and are left out: {listed}")
