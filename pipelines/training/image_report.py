"""Says what images a command found: splits, classes, counts, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from pipelines.cli.console import console
from stage1_vqvae.data.dataset import ImageData, ImageSplit
from stage1_vqvae.data.decoding_pass import write_left_out
from stage1_vqvae.data.originals import printable
from stage1_vqvae.data.preprocessing import COLOURS
from stage1_vqvae.data.splits import listed
from stage1_vqvae.files import replacing

SHOWN = 10
"""Classes that are listed one by one; of more only the range of their sizes is shown."""


def report_images(images: ImageData, output: str | None) -> None:
    """Prints splits, classes and counts, what is left out, and what a person should know of the images.

    Args:
        images: What was found.
        output: A folder that gets ``quarantine.csv``, the list of what is left out; None writes none.
    """
    height, width = images.image_size
    source = escape(images.train.description["source"])
    lines = [f"images: {source}, {height}×{width}, {COLOURS[images.channels]}"]
    for name, split, how in (("train", images.train, ""), ("validation", images.validation, images.held_back)):
        classes = _classes(split, images.class_names)
        lines.append(f"  {name:<10} {len(split):>9,}  {classes}" + (f" [dim]({how})[/]" if how else ""))
    if images.left_out:
        lines.append(f"  {'left out':<10} {len(images.left_out):>9,}  {_list_left_out(images, output)}".rstrip())
        lines += [f"  {'':<10} {count:>9,}  {escape(reason)}" for reason, count in _reasons(images)]
    lines += [f"  [yellow]![/] {escape(note)}" for note in [*images.notes, *_untrained(images)]]
    console.print_once([printable(line) for line in lines])


def _classes(split: ImageSplit, names: Sequence[str]) -> str:
    """How many images of each class a split has, in a line."""
    if not names:
        return "no classes"
    counts = split.class_counts(len(names))
    there = [(count, name) for count, name in zip(counts, names, strict=True) if count]
    parts = [escape(f"{name}: {count:,}") for count, name in there]
    if len(there) > 2 and len({count for count, _ in there}) == 1:
        parts = [escape(f"{there[0][0]:,} each of {listed((name for _, name in there), SHOWN)}")]
    elif len(there) > SHOWN:
        (fewest, rare), (most, common) = min(there), max(there)
        parts = [escape(f"{len(there)} classes of {fewest:,} (class {rare}) to {most:,} (class {common}) images")]
    unlabelled = len(split) - sum(counts)
    return ", ".join(parts + ([f"{unlabelled:,} without a class"] if unlabelled else []))


def _untrained(images: ImageData) -> list[str]:
    """A note on classes that no training image has."""
    counts = images.train.class_counts(len(images.class_names))
    missing = [name for name, count in zip(images.class_names, counts, strict=True) if not count]
    if not missing:
        return []
    return [f"no training images of {len(missing)} of {len(counts)} classes, which are not drawn: {listed(missing)}"]


def _reasons(images: ImageData) -> list[tuple[str, int]]:
    """Why files are left out, and how many for each reason; the first of those that cannot be read is named."""
    bad = images.left_out[: images.unreadable]
    passed = Counter(one.reason for one in images.left_out[images.unreadable :])
    first = [(f"cannot be read, the first is {bad[0].where} ({bad[0].reason})", len(bad))] if bad else []
    return first + passed.most_common()


def _list_left_out(images: ImageData, output: str | None) -> str:
    """Writes the list into a folder, if one is given; says where it is."""
    if output is None:
        return ""
    path = Path(output) / "quarantine.csv"
    with replacing(path) as temporary:
        write_left_out(temporary, images.left_out)
    return f"listed in {path}"
