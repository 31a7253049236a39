"""Samples on disk while they are drawn: a file for each finished batch, and in the end one for all."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.samples import Samples
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.files import replacing

ARRAYS = ("images", "labels", "codes")
"""Of every part and of the whole: uint8 ``[N, H, W, C]``, int64 ``[N]`` and int64 ``[N, T]``."""


@dataclass(frozen=True)
class Parts:
    """Finished batches, each in a file whose name says which images it holds.

    Parts may overlap, as those of two batch sizes do: an image is the same in each.

    Attributes:
        folder: Where they lie; any number of processes may write there.
    """

    folder: Path

    def write(self, first: int, samples: Samples) -> None:
        """Write images ``first``, ``first + 1``, …, whole or not at all."""
        images = to_uint8(samples.images * 2 - 1).numpy()
        path = self.folder / f"{first:09d}-{first + len(images):09d}.npz"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, images=images, labels=samples.labels.numpy(), codes=samples.codes.numpy())

    def missing(self, n: int, size: int) -> list[range]:
        """Those of the batches of ``size`` among ``n`` images that are not here."""
        here = self.paths()
        batches = [range(start, min(start + size, n)) for start in range(0, n, size)]
        return [batch for batch in batches if sum(len(rows) for _, rows in cover(here, batch)) < len(batch)]

    def rows(self, name: str, n: int) -> Iterator[NDArray[Any]]:
        """An array's rows of images 0 to n - 1, with one part in memory at a time.

        Raises:
            ValueError: If a part is damaged.
        """
        for path, rows in cover(self.paths(), range(n)):
            try:
                with np.load(path, allow_pickle=False) as part:
                    array = part[name]
            except (zipfile.BadZipFile, ValueError) as error:
                raise ValueError(f"{path} is damaged ({error}): remove it and give the same command again") from error
            yield from array[rows.start : rows.stop]

    def first_images(self, count: int) -> NDArray[np.uint8]:
        """The first ``count`` images, uint8 ``[count, H, W, C]``."""
        return np.stack(list(islice(self.rows("images", count), count)))

    def assemble(self, n: int, path: Path) -> None:
        """Write one npz file of all ``n`` images; the same images are the same bytes."""
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in ARRAYS:
                member = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date
                member.compress_type = zipfile.ZIP_DEFLATED
                rows = self.rows(name, n)
                row = next(rows)
                header = {"descr": row.dtype.str, "fortran_order": False, "shape": (n, *row.shape)}
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(row.tobytes())
                    for row in rows:
                        file.write(row.tobytes())

    def paths(self) -> list[tuple[range, Path]]:
        """All parts and the images they hold, in order."""
        found = [(range(*map(int, path.stem.split("-"))), path) for path in self.folder.glob("[0-9]*-*.npz")]
        return sorted(found, key=lambda part: part[0].start)


def cover(parts: list[tuple[range, Path]], images: range) -> Iterator[tuple[Path, range]]:
    """Rows of parts that hold ``images``, as far as they do without a gap."""
    position = images.start
    for here, path in parts:
        if here.start <= position < min(here.stop, images.stop):
            stop = min(here.stop, images.stop)
            yield path, range(position - here.start, stop - here.start)
            position = stop
