"""Codes written to disk, shard by shard, by any number of processes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from stage1_vqvae.files import sha256, write_json
from stage2_prior.code_store.manifest import MANIFEST, PLAN, Manifest, Shard, digest_of, read_manifest
from stage2_prior.code_store.shard import shard_files
from stage2_prior.code_store.store import CodeStore


class CodeStoreWriter:
    """Writes a store, shard by shard; killed at any point, the same extraction goes on where it was.

    Several processes may each hold a writer of one store and write different shards: rank r of w takes the
    shards of :meth:`missing` with ``shard % w == r``. Once all are written, one of them publishes. A shard
    carries the digest of the plan it was written for, so shards of two extractions never mix.

    Args:
        folder: Where the store is, or will be.
        manifest: What is extracted; its shards are set here.
        rows_per_shard: Rows of each shard but the last.

    Raises:
        ValueError: If there is nothing to extract, or the folder holds, finished or not, codes of other
            tokenizer, data, layout, ...; the first differences are named.
    """

    def __init__(self, folder: str | Path, manifest: Manifest, rows_per_shard: int = 65536) -> None:
        if manifest.count < 1 or rows_per_shard < 1:
            raise ValueError(
                f"a code store has at least one row and one row per shard, got {manifest.count} and {rows_per_shard}"
            )
        self.folder = Path(folder)
        self.rows_per_shard = rows_per_shard
        total = math.ceil(manifest.count / rows_per_shard)
        shards = tuple(
            Shard(f"codes-{n:05d}-of-{total:05d}.safetensors", min(rows_per_shard, manifest.count - n * rows_per_shard))
            for n in range(total)
        )
        self.plan = replace(manifest, shards=shards)
        self._files = shard_files(self.folder, self.plan)
        self._claim()

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be written."""
        return [number for number, file in enumerate(self._files) if file.fault()]

    def rows(self, shard: int) -> range:
        """The rows that a shard holds."""
        start = shard * self.rows_per_shard
        return range(start, start + self.plan.shards[shard].count)

    def write(self, shard: int, codes: Tensor, labels: Tensor) -> None:
        """Write one shard. One that is there already is kept.

        Args:
            shard: Its number.
            codes: Integers ``[n, T]``, those of ``rows(shard)``.
            labels: Integers ``[n]``, -1 where there is none.

        Raises:
            ValueError: If a code or a label is out of range, the number of rows is not the shard's, or the
                folder has meanwhile become another extraction's.
        """
        assert not codes.is_floating_point(), codes.dtype
        expected = (len(self.rows(shard)), self.plan.layout.length)
        if codes.shape != expected or labels.shape != expected[:1]:
            raise ValueError(
                f"shard {shard} of codes {list(expected)} and labels {list(expected[:1])} expected, "
                f"got {list(codes.shape)} and {list(labels.shape)}"
            )
        self.plan.layout.check(codes)
        classes = len(self.plan.class_names)
        if labels.min() < -1 or labels.max() >= classes:
            raise ValueError(
                f"labels are -1 (none) to {classes - 1} for {classes} class names, "
                f"got {int(labels.min())} to {int(labels.max())}"
            )
        self._claim()
        if self._files[shard].fault():
            self._files[shard].write(codes, labels)

    def publish(self) -> CodeStore:
        """Write the manifest, which makes the store a finished one; a finished one is verified instead.

        Raises:
            ValueError: If shards are missing, or those of a finished store are not what was published.
        """
        self._claim()
        missing = self.missing()
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self._files)} shards are not written, "
                f"the first is {self._files[missing[0]].path}: run extraction again"
            )
        if (self.folder / MANIFEST).exists():
            CodeStore.open(self.folder).verify()
        else:
            hashes = (sha256(file.path) for file in self._files)
            shards = tuple(replace(shard, sha256=h) for shard, h in zip(self.plan.shards, hashes, strict=True))
            write_json(self.folder / MANIFEST, replace(self.plan, shards=shards).to_dict())
        (self.folder / PLAN).unlink(missing_ok=True)
        return CodeStore.open(self.folder)

    def _claim(self) -> None:
        """Refuse a folder of another extraction; make an unclaimed one this extraction's."""
        found = read_manifest(self.folder / MANIFEST) or read_manifest(self.folder / PLAN)
        if found is None:
            write_json(self.folder / PLAN, self.plan.to_dict())
        elif found.plan.digest != self.plan.digest:
            there, asked = (dict(_flat(manifest.plan.fields())) for manifest in (found, self.plan))
            names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
            differences = "; ".join(f"{n} {asked.get(n)} expected, {there.get(n)} found" for n in names[:3])
            raise ValueError(
                f"{self.folder} holds codes of another extraction: {differences}; "
                f"delete that folder, or extract into another"
            )


def _flat(plain: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested dicts: dotted name and value, shortened to fit a line."""
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = json.dumps(value)
            yield prefix + key, text if len(text) <= 100 else f"{text[:60]}... ({digest_of({key: value})[:8]})"
