"""Codes on disk, memory-mapped: a finished store as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import sha256
from stage2_prior.code_store.manifest import MANIFEST, Manifest, read_manifest
from stage2_prior.code_store.shard import shard_files


class CodeBatch(TypedDict):
    """Rows of a store, all int64: ``codes [B, T]``, ``labels [B]`` (-1: none) and the ``draws [B]`` they are of."""

    codes: Tensor
    labels: Tensor
    draws: Tensor


class CodeStore(Dataset[CodeBatch]):
    """A finished store, memory-mapped and read-only; a map-style dataset that is fetched in batches.

    A DataLoader over it takes ``collate_fn=lambda batch: batch`` or the like: what ``__getitems__`` gives is
    a batch already. Its files are opened where they are first read, so it travels to workers as a few names.

    Args:
        folder: Where the shards are.
        manifest: What they are; :meth:`open` reads it.

    Raises:
        ValueError: If a shard is missing, truncated or of another extraction.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._files = shard_files(folder, manifest)
        self._ends = np.cumsum([shard.count for shard in manifest.shards])
        for file in self._files:
            fault = file.fault()
            if fault:
                raise ValueError(fault)

    @classmethod
    def open(cls, folder: str | Path, tokenizer: str | None = None) -> CodeStore:
        """Open a finished store. Its shards' headers and sizes are checked here, their content by :meth:`verify`.

        Args:
            folder: Where it is.
            tokenizer: Fingerprint of the tokenizer that its codes must be of. None: of any.

        Raises:
            ValueError: If it is unfinished, damaged, or of another tokenizer or format version.
        """
        folder = Path(folder)
        manifest = read_manifest(folder / MANIFEST)
        if manifest is None:
            raise ValueError(f"{folder} is no finished code store, it has no {MANIFEST}: run extraction again")
        if tokenizer is not None and manifest.tokenizer != tokenizer:
            raise ValueError(
                f"{folder} holds codes of another tokenizer: {tokenizer} expected, {manifest.tokenizer} found; "
                f"extract the codes of this tokenizer into another folder, or delete this one first"
            )
        return cls(folder, manifest)

    @property
    def layout(self) -> CodeLayout:
        """How to read the codes."""
        return self.manifest.layout

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ...; empty where there are no labels."""
        return self.manifest.class_names

    def __len__(self) -> int:
        return self.manifest.count

    def __getitems__(self, draws: Sequence[int]) -> CodeBatch:
        """The rows ``draw % len(self)``.

        A draw is ``epoch * len(self) + index``: it names one showing of one row, so that whatever is random
        about it can be a function of the seed and the draw.
        """
        numbers = np.array(draws, dtype=np.int64)
        rows = numbers % len(self)
        shards = np.searchsorted(self._ends, rows, side="right")
        codes = np.empty((len(rows), self.layout.length), dtype=np.int64)
        labels = np.empty(len(rows), dtype=np.int64)
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            stored = self._files[shard].rows()
            within = rows[here] - (self._ends[shard] - len(stored.labels))
            codes[here], labels[here] = stored.codes[within], stored.labels[within]
        return CodeBatch(
            codes=torch.from_numpy(codes), labels=torch.from_numpy(labels), draws=torch.from_numpy(numbers)
        )

    def verify(self) -> None:
        """Read every byte of the store and raise ValueError unless it is what was published."""
        for shard, file in zip(self.manifest.shards, self._files, strict=True):
            found = sha256(file.path)
            if found != shard.sha256:
                raise ValueError(
                    f"{file.path} is damaged: SHA-256 {shard.sha256} expected, {found} found; "
                    f"delete it and run extraction again"
                )

    def class_counts(self) -> list[int]:
        """Number of images of each class; the copies of an image count once."""
        classes, copies = len(self.class_names), int(self.manifest.augmentation.get("copies", 1))
        counts = np.zeros(classes, dtype=np.int64)
        for file in self._files:
            labels = file.rows().labels
            counts += np.bincount(labels[labels >= 0], minlength=classes)
        return (counts // copies).tolist()

    def histogram(self) -> list[npt.NDArray[np.int64]]:
        """How often each code occurs: for each grid, counts ``[codebook size]`` over its positions and all rows."""
        layout = self.layout
        counts = [np.zeros(size, dtype=np.int64) for size in layout.codebook_sizes]
        chunk = max(1, 2**22 // layout.length)
        for file in self._files:
            codes = file.rows().codes
            for start in range(0, len(codes), chunk):
                grids = np.split(codes[start : start + chunk], np.cumsum(layout.lengths)[:-1], axis=1)
                for count, grid in zip(counts, grids, strict=True):
                    count += np.bincount(grid.ravel(), minlength=len(count))
        return counts

    def unigram_entropy(self, grid: int | None = None) -> float:
        """Nats per code of a prior that knows each grid's histogram and nothing else, averaged over positions.

        Args:
            grid: Number of the grid whose positions count; None for all.
        """
        shares = [counts[counts > 0] / counts.sum() for counts in self.histogram()]
        nats = np.array([-np.sum(share * np.log(share)) for share in shares])
        return float(np.average(nats, weights=self.layout.lengths) if grid is None else nats[grid])
