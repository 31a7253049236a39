"""What the page's buttons do, as functions of plain values; nothing here knows of the page."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.inputs.images import images_of
from pipelines.playground.neighbours import Neighbours
from pipelines.playground.words import command_of, python_of
from pipelines.samples import Samples
from pipelines.tracking.image_grid import grid
from stage1_vqvae.data.preprocessing import MODES

MOST = 64
"""Images that one request draws at most, unless the page is opened with another limit."""

LARGEST = 4096
"""Pixels along each side of an uploaded image, at most."""

CELL = 44
"""Pixels of a code in the picture of codes."""


@dataclass(frozen=True)
class Result:
    """What an action shows.

    Attributes:
        picture: The images.
        codes: The codes of the first image, each as what it looks like; None while they are drawn.
        said: A sentence.
        recipe: The command and the Python code that make it.
        files: Of the download, a picture and arrays.
    """

    picture: Image.Image
    codes: Image.Image | None = None
    said: str = ""
    recipe: str = ""
    files: tuple[str, ...] = ()


@dataclass
class Actions:
    """The actions on one generator, one at a time.

    Args:
        generator: A :class:`~pipelines.generator.Generator`, which its own module names: it opens this page.
        most: Images of a request at most.
    """

    generator: Any
    most: int = MOST
    patches: dict[tuple[int, int], Image.Image] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    neighbours: Neighbours | None = None
    folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="vqvae-play-")
    )

    @property
    def model(self) -> Path:
        """The run's folder as commands name it."""
        origin = self.generator.origin
        return Path("runs/demo") if origin is None else Path(origin.run.path)

    def sample(self, label: str | None, n: int, seed: int, settings: Mapping[str, Any]) -> Iterator[Result]:
        """Draw images; yields the codes as they are drawn, and the images at the end.

        Args:
            label: A class; None for all in turn.
            n: How many.
            seed: Of the noise.
            settings: Sampling settings in place of the recipe's.

        Raises:
            ValueError: If something is out of range.
        """
        n, seed = self.count(n), self.seed(seed)
        asked = {"label": label, "seed": seed, **settings}
        with self.lock:
            drawn: Queue[Tensor | Samples | Exception] = Queue()
            threading.Thread(target=self._draw, args=(n, asked, drawn), daemon=True).start()
            newest: Any = None
            while not isinstance(newest, Samples):
                newest = drawn.get()
                if isinstance(newest, Exception):
                    raise newest
                if isinstance(newest, Tensor):
                    yield self._unfinished(newest)
            yield self._result(newest, command_of(self.model, "sample", {"n": n, **asked}), self._python(n, asked))

    def _draw(self, n: int, asked: dict[str, Any], drawn: Queue[Tensor | Samples | Exception]) -> None:
        shown = Shown(drawn)
        try:
            drawn.put(self.generator.sample(n, on_position=shown, batch_size=self.most, **asked))
        except Exception as error:  # it is said where the images are waited for
            drawn.put(error)

    def _unfinished(self, codes: Tensor) -> Result:
        """The images of codes so far ``[B, t]``; the others are the first code."""
        length = self.generator.layout.length
        whole = torch.nn.functional.pad(codes, (0, length - codes.shape[1]))
        images = pixels(self.generator.decode(whole))
        return Result(picture_of(images), said=f"Drawing: code {codes.shape[1]} of {length} …")

    def nearest(self, arrays: str | None) -> Result:
        """Samples above the training images that are nearest to them.

        Args:
            arrays: Of a result's files the one of arrays; None before there is any.

        Raises:
            ValueError: If there is none, or the training images are not where they were.
        """
        if arrays is None:
            raise ValueError("Draw images first.")
        origin = self.generator.origin
        if origin is None:
            raise ValueError("The generator was not loaded from a run, which knows its training images.")
        images = np.load(arrays)["images"]
        with self.lock:
            self.neighbours = self.neighbours or Neighbours(origin.run, origin.trust)
            found = self.neighbours.of(images)
        errors, psnr = found.errors, -10 * np.log10(np.maximum(found.errors, 1e-12))
        among = f"{found.among}" if found.among == found.of else f"the first {found.among} of {found.of}"
        said = (
            f"Below each image the nearest of {among} training images, by their pixels: "
            f"{psnr[errors.argmin()]:.1f} dB PSNR for the nearest pair, {np.median(psnr):.1f} dB in the middle."
        )
        return Result(pairs_of(images, found.images), said=said)

    def one(self, seed: int) -> Image.Image:
        """A new image by itself."""
        with self.lock:
            found: Image.Image = self.generator.sample(1, seed=self.seed(seed)).to_pil()[0]
            return found

    def complete(self, image: Any, redraw: NDArray[np.bool_], n: int, label: str | None, seed: int) -> Result:
        """Keep a part of an image and draw the rest.

        Args:
            image: An upload, of any size.
            redraw: Pixels to draw anew, bool ``[H, W]`` of any size.
            n: How many completions.
            label: A class; None for none.
            seed: Of the noise.

        Raises:
            ValueError: If nothing is painted, or everything.
        """
        n, seed = self.count(n), self.seed(seed)
        if not redraw.any():
            raise ValueError("Paint over the part that is to be drawn anew.")
        with self.lock:
            pixels_of = self.fitted(image)
            height, width = self.generator.tokenizer.image_size
            mask = Image.fromarray(redraw).resize((width, height), Image.Resampling.NEAREST)
            keep = torch.from_numpy(~np.array(mask))
            if not keep.any():
                raise ValueError("Everything is painted over: leave a part of the image.")
            codes = self.generator.encode(pixels_of).expand(n, -1)
            samples = self.generator.complete(codes, keep, label, seed, originals=pixels_of.expand(n, -1, -1, -1))
            python = python_of(
                self.model,
                'codes = generator.encode("image.png", resize=True)\n'
                'samples = generator.complete(codes, "mask.png", {})  # white is kept',
                {"labels": label, "seed": seed},
            )
            asked = {"images": "image.png", "keep": "mask.png", "n": n, "label": label, "seed": seed}
            return self._result(samples, command_of(self.model, "complete", asked), python)

    def reconstruct(self, image: Any) -> Result:
        """An image as it is, after a way through its codes, and the error between the two.

        Raises:
            ValueError: If it is too large.
        """
        with self.lock:
            original = self.fitted(image)
            codes = self.generator.encode(original)
            found = self.generator.decode(codes)
            error = (original - found).abs()
            shown = torch.cat([original, found, error / error.amax().clamp(min=1e-6)])
            mse = float(((original - found) * 2).square().mean())
            said = (
                f"The image as the model sees it, its reconstruction, and the error, brightest where it is "
                f"{float(error.amax()):.2f}. PSNR {10 * np.log10(4 / max(mse, 1e-12)):.1f} dB, "
                f"{codes.shape[1]} codes for {original.numel()} numbers."
            )
            python = python_of(self.model, 'images = generator.reconstruct("image.png", resize=True)', {})
            files = self._files(Samples(found, codes, torch.tensor([-1]), torch.zeros(codes.shape)))
            return Result(picture_of(pixels(shown)), self.picture_of_codes(codes[0]), said, python, files)

    def fitted(self, image: Any) -> Tensor:
        """An upload as the model takes it, float32 ``[1, C, H, W]`` in [0, 1].

        Raises:
            ValueError: If there is none, or it is too large.
        """
        if image is None:
            raise ValueError("Give an image first.")
        picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
        if max(picture.size) > LARGEST:
            raise ValueError(f"The image has {picture.width}×{picture.height} pixels; {LARGEST} a side at most.")
        return images_of(picture, self.generator.form, resize=True)

    def count(self, n: int) -> int:
        """A number of images; ValueError if it is out of range."""
        if not (isinstance(n, int | float) and n == int(n) and 1 <= n <= self.most):
            raise ValueError(f"1 to {self.most} images at a time, not {n}.")
        return int(n)

    def seed(self, seed: int) -> int:
        """A seed; ValueError if it is out of range."""
        if not (isinstance(seed, int | float) and seed == int(seed) and 0 <= seed < 2**53):
            raise ValueError(f"A seed is a whole number from 0, not {seed}.")
        return int(seed)

    def picture_of_codes(self, codes: Tensor) -> Image.Image:
        """Codes ``[T]`` of an image, grid beside grid: what each code looks like by itself, and its number."""
        grids = self.generator.layout.split(codes[None])
        heights, widths = zip(*((part.shape[1], part.shape[2]) for part in grids), strict=True)
        # See-through between the codes, as between images.
        sheet = Image.new("RGBA", ((sum(widths) + len(widths) - 1) * CELL, max(heights) * CELL))
        left = 0
        for index, part in enumerate(grids):
            for row, line in enumerate(part[0].tolist()):
                for column, code in enumerate(line):
                    sheet.paste(self.patch(index, code), ((left + column) * CELL, row * CELL))
            left += widths[index] + 1
        return sheet

    def patch(self, index: int, code: int) -> Image.Image:
        """What a code of a grid looks like: the middle of an image all of whose codes of that grid it is."""
        if (index, code) not in self.patches:
            parts = [torch.full((1, *shape), code if index == other else 0) for other, shape in enumerate(self.shapes)]
            image = pixels(self.generator.decode(torch.cat([part.flatten(1) for part in parts], 1)))[0]
            height, width = image.shape[0] // self.shapes[index][0], image.shape[1] // self.shapes[index][1]
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            part = image[top : top + height, left : left + width]
            cell = Image.fromarray(part[..., 0] if part.shape[-1] == 1 else part, MODES[part.shape[-1]]).convert("RGB")
            cell = cell.resize((CELL - 2, CELL - 2), Image.Resampling.NEAREST)
            draw = ImageDraw.Draw(cell)
            draw.text((2, 1), str(code), fill="white", stroke_width=2, stroke_fill="black", font_size=12)
            self.patches[index, code] = cell
        return self.patches[index, code]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the grids."""
        found: tuple[tuple[int, ...], ...] = self.generator.layout.grids
        return found

    def _python(self, n: int, asked: Mapping[str, Any]) -> str:
        return python_of(self.model, f"samples = generator.sample({n}, {{}})", asked)

    def _result(self, samples: Samples, command: str, python: str) -> Result:
        nats = -samples.log_probs.sum(1)
        said = f"{len(samples)} images, {samples.codes.shape[1]} codes each; {float(nats.mean()):.1f} nats an image."
        recipe = f"# a command\n{command}\n\n# or Python\n{python}"
        picture = picture_of(samples.images_uint8)
        return Result(picture, self.picture_of_codes(samples.codes[0]), said, recipe, self._files(samples))

    def _files(self, samples: Samples) -> tuple[str, ...]:
        folder = Path(tempfile.mkdtemp(dir=self.folder.name))
        paths = [folder / "images.png", folder / "images.npz"]
        for path in paths:
            samples.save(path, columns=8)
        return tuple(map(str, paths))


class Shown:
    """Hands codes on while they are drawn, of the first images and not too often.

    Args:
        drawn: Where to.
    """

    def __init__(self, drawn: Queue[Any]) -> None:
        self.drawn = drawn

    def __call__(self, images: list[int], codes: Tensor) -> None:
        """Take the codes so far ``[n, t]`` of some images; skipped while earlier ones are waited for."""
        if 0 in images and self.drawn.empty():
            self.drawn.put(codes[:8].cpu().clone())


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images ``[B, C, H, W]`` in [0, 1] as uint8 ``[B, H, W, C]``."""
    found: NDArray[np.uint8] = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found


def pairs_of(images: NDArray[np.uint8], partners: NDArray[np.uint8]) -> Image.Image:
    """Images above their partners, both uint8 ``[B, H, W, C]``, in rows of up to 8."""
    columns = min(len(images), 8)
    seen = [with_alpha(each) for each in (images, partners)]
    blank = np.zeros_like(seen[0][:1]).repeat(-len(images) % columns, 0)
    both = np.stack([np.concatenate([each, blank]) for each in seen])
    return grid(rearrange(both, "two (r c) ... -> (r two c) ...", c=columns), columns, ground=0)


def picture_of(images: NDArray[np.uint8]) -> Image.Image:
    """Images uint8 ``[B, H, W, C]`` in rows of up to 8, see-through between them: the page is light or dark."""
    return grid(with_alpha(images), min(len(images), 8), ground=0)


def with_alpha(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images ``[B, H, W, C]`` with a last channel of alpha; those that lack it become opaque."""
    if images.shape[-1] in (2, 4):
        return images
    return np.concatenate([images, np.full_like(images[..., :1], 255)], 3)
