"""Keep a part of each image and draw the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.markup import escape
from torch import Tensor

from pipelines.cli.console import console
from pipelines.cli.kernel import progress
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.generator import Generator
from pipelines.masks import code_mask, kept_pixels, pixel_mask
from pipelines.samples import Samples
from pipelines.tasks.sample import draw, label_part, setting_parts
from pipelines.tracking.image_grid import grid, save_image
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.data.decoding import UnreadableImage, read_file
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.data.tree import Tree
from stage1_vqvae.files import replacing
from stage2_prior.prior import NO_LABEL
from stage2_prior.sampling import SamplingSettings

SHOWN = 20
"""Images in the picture."""

HIDDEN = 128
"""Grey of what is not kept."""


@dataclass(frozen=True)
class Originals:
    """Images of which a part is kept.

    Attributes:
        images: uint8 ``[I, H, W, C]``.
        keep: Codes that are held, bool ``[T]``.
        kept: Pixels that those codes stand for, bool ``[H, W]``.
    """

    images: NDArray[np.uint8]
    keep: Tensor
    kept: Tensor

    @property
    def masked(self) -> NDArray[np.uint8]:
        """The images with grey in place of what is not kept."""
        return np.where(self.kept.numpy()[..., None], self.images, np.uint8(HIDDEN))

    @property
    def digest(self) -> str:
        """SHA-256 of pixels and mask, in hexadecimal."""
        return hashlib.sha256(self.images.tobytes() + self.keep.numpy().tobytes()).hexdigest()


def complete_command(settings: Settings) -> Path:
    """Complete the images of ``settings["images"]`` with the run of ``settings["model"]``; returns their folder."""
    return draw(settings, "completions", default_name, write_completions)


def write_completions(generator: Generator, output: Path, settings: Settings, asked: Mapping[str, Any]) -> None:
    """Draw ``settings["n"]`` completions of each image into a folder, unless the same settings did.

    Raises:
        ValueError: If a setting is wrong, or the folder holds completions of other settings, images or another prior.
    """
    for name, least in (("n", 1), ("candidates", 1), ("seed", 0)):
        number = settings[name]
        if not (number is None and name == "candidates") and (not isinstance(number, int) or number < least):
            raise ValueError(f"{name} is at least {least}, got {number}")
    n, label = settings["n"], settings["label"]
    labels = torch.full((n,), NO_LABEL) if label is None else generator.labels(n, label)
    made_by = {**generator.settings_with(**asked).plain(), "prior": generator.fingerprint}
    originals = read_originals(generator, settings)
    named = {key: settings[key] for key in ("images", "keep", "box", "n", "label", "seed", "candidates")}
    named["keep_pixels"] = settings["keep_pixels"]
    made = {**named, "digest": originals.digest, **made_by}
    products = [output / "images.npz"]
    defaults = {**SamplingSettings().plain(), "keep_pixels": False}
    Claim(output / SETTINGS, made, "set of completions", products, defaults=defaults).take()
    if (output / "images.npz").exists():
        console.print(f"[green]✓[/] completions: already drawn ({output})")
        return
    if collectives.rank() == 0:
        pixels = torch.from_numpy(originals.images).permute(0, 3, 1, 2) / 255
        codes = generator.encode(pixels)
        with progress("completions", n * len(codes)) as shown:
            samples = generator.complete(
                codes.repeat_interleave(n, 0),
                originals.keep,
                labels.repeat(len(codes)),
                settings["seed"],
                settings["candidates"],
                shown.advance,
                pixels.repeat_interleave(n, 0) if settings["keep_pixels"] else None,
                **asked,
            )
        save_completions(originals, samples, output)
    collectives.barrier()
    console.print(f"[green]✓[/] completions: {n} of each of {len(originals.images)} images")


def read_originals(generator: Generator, settings: Settings) -> Originals:
    """The images in the tokenizer's size and channels, and what is kept of them.

    Raises:
        ValueError: If there are none, none can be read, or not one code is kept.
    """
    tokenizer, layout = generator.tokenizer, generator.layout
    height, width = tokenizer.image_size
    pixels = pixel_mask(settings["keep"], settings["box"], (height, width))
    keep = code_mask(pixels, layout, tokenizer.padding)
    if not keep.any():
        rows, columns = layout.grids[-1]
        size = f"{(height + 2 * tokenizer.padding) // rows}×{(width + 2 * tokenizer.padding) // columns}"
        raise ValueError(f"keep={settings['keep']} keeps no whole code, which is {size} pixels: keep more")
    images = read_images(Path(settings["images"]), generator.form)
    return Originals(images, keep, kept_pixels(keep, layout, (height, width), tokenizer.padding))


def read_images(images: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """One image's file, or those of a folder as ``data=folder`` finds them, uint8 ``[I, H, W, C]``.

    Of a folder, images that cannot be read are left out, which is said.

    Raises:
        ValueError: If there are none, or none can be read.
    """
    if images.is_file():
        return np.stack([read_file(images, preprocessing)])
    paths = Tree.below(images).images if images.is_dir() else []
    if not paths:
        raise ValueError(f"images={images}: an image's file or a folder of images expected, there is none")
    found = [read_or_error(path, preprocessing) for path in paths]
    bad = [image for image in found if isinstance(image, UnreadableImage)]
    if len(bad) == len(found):
        raise ValueError(f"images={images}: none of {len(bad)} images can be read; the first: {bad[0]}")
    if bad:
        console.print(f"[yellow]![/] {len(bad)} of {len(found)} images are left out; the first: {escape(str(bad[0]))}")
    return np.stack([image for image in found if not isinstance(image, UnreadableImage)])


def read_or_error(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8] | UnreadableImage:
    """An image's file as uint8 ``[H, W, C]``, or why it cannot be read."""
    try:
        return read_file(path, preprocessing)
    except UnreadableImage as error:
        return error


def save_completions(originals: Originals, samples: Samples, output: Path) -> None:
    """Write ``grid.png`` (a row per image: original, masked, completions) and ``images.npz``.

    The arrays ``images``, ``labels`` and ``codes`` hold all completions of the first image, then those of the second
    and so on; ``originals`` uint8 ``[I, H, W, C]`` and ``keep_mask`` bool ``[T]`` say what they were made of.
    """
    images = to_uint8(samples.images * 2 - 1).numpy()
    rows = np.concatenate(
        [
            originals.images[:, None],
            originals.masked[:, None],
            images.reshape(len(originals.images), -1, *images.shape[1:]),
        ],
        axis=1,
    )[:SHOWN]  # [I, 2 + n, H, W, C]
    save_image(grid(rows.reshape(-1, *images.shape[1:]), rows.shape[1]), output / "grid.png")
    with replacing(output / "images.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            images=images,
            labels=samples.labels.numpy(),
            codes=samples.codes.numpy(),
            originals=originals.images,
            keep_mask=originals.keep.numpy(),
        )


def default_name(settings: Settings, asked: Mapping[str, Any]) -> str:
    """A folder's name that says what was asked for, so that other settings lie elsewhere."""
    box = settings["box"]
    keep = "-".join(["box", *map(str, box)]) if box else Path(settings["keep"]).stem
    parts = [Path(settings["images"]).stem, keep, f"n{settings['n']}", f"seed{settings['seed']}"]
    parts += label_part(settings)
    parts += [] if settings["candidates"] is None else [f"candidates{settings['candidates']}"]
    parts += ["keep_pixels"] if settings["keep_pixels"] else []
    return "_".join([*parts, *setting_parts(asked)])
