"""What is known of images before a training: lines for the terminal, and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.report.page import write_page
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.data.survey import Survey

SHOWN = 3
"""Sizes, modes or formats that are named."""


@dataclass(frozen=True)
class Preview:
    """What was found of a set of images.

    Attributes:
        images: The images as a training sees them.
        survey: What they were before.
        within: Training images that nearly equal an earlier one, and how many were compared.
        across: Validation images that nearly equal a training image, and how many were compared.
    """

    images: ImageData
    survey: Survey
    within: tuple[int, int]
    across: tuple[int, int]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Names and values, one a line."""
        found, (height, width) = self.survey, self.images.image_size
        of = "" if found.read == found.total else f" (of {found.read:,} of {found.total:,} images)"
        yield "formats", most_common(found.formats) + of
        yield "channels", most_common(found.modes)
        sizes = Counter({f"{tall}×{wide}": count for (tall, wide), count in found.sizes.items()})
        yield "sizes", most_common(sizes)
        small = sum(count for (tall, wide), count in found.sizes.items() if tall < height or wide < width)
        if small:
            yield "enlarged", f"{small:,} images are smaller than {height}×{width}"
        train = self.images.train
        yield "pixels", f"mean {train.mean:.3f}, variance {train.variance:.4f}, of values in [-1, 1]"
        yield (
            "nearly equal",
            "; ".join(
                f"{count:,} of {compared:,} {which}"
                for (count, compared), which in (
                    (self.within, "training images to an earlier one"),
                    (self.across, "validation images to a training image"),
                )
            ),
        )

    def classes(self) -> list[tuple[str, int, int]]:
        """Name, training images and validation images of each class."""
        names, train, validation = self.images.class_names, self.images.train, self.images.validation
        counts = train.class_counts(len(names)), validation.class_counts(len(names))
        return list(zip(names, *counts, strict=True))


def most_common(counts: Counter[str]) -> str:
    """The commonest values with their counts, and how many others there are."""
    named = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(SHOWN))
    others = len(counts) - SHOWN
    return named + (f", and {others:,} others" if others > 0 else "")


def write_preview(seen: Preview, folder: Path) -> Path:
    """Write the page of a folder with ``images.png`` and ``augmented.png``; returns its path."""
    page, pairs = folder / "preview.html", folder / "nearly_equal.png"
    images = seen.images
    write_page(
        page,
        "preview.html",
        source=images.train.description["source"],
        size="{}×{}".format(*images.image_size),
        splits=[("train", len(images.train), ""), ("validation", len(images.validation), images.held_back)],
        classes=seen.classes(),
        lines=list(seen.lines()),
        notes=images.notes,
        left_out=Counter(one.reason for one in images.left_out).most_common(),
        pictures=folder,
        augmentation=", ".join(f"{key}={value}" for key, value in asdict(images.augmentation).items() if value),
        pairs=pairs if pairs.exists() else None,
    )
    return page
