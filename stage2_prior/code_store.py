"""Codes on disk: written shard by shard by any number of processes, checked, and read memory-mapped."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stage1_vqvae.codes import CodeLayout
from stage2_prior.files import read_json, replacing, sha256, write_json

FORMAT = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"


@dataclass(frozen=True)
class Shard:
    """One file of a store: its name, its number of rows, and its SHA-256 (empty until the store is published)."""

    file: str
    count: int
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What the codes of a store are of. Two extractions with equal plans give the same codes.

    Args:
        tokenizer: Fingerprint of the tokenizer, hexadecimal.
        layout: How to read the codes.
        data: The images: source, split, preprocessing, ... as plain JSON data.
        augmentation: What was done to them before encoding, and the number of ``copies``, as plain JSON data.
        class_names: Names of the labels 0, 1, ...; empty where there are no labels.
        count: Number of rows, all copies included.
        shards: The files, in the order of their rows.
    """

    tokenizer: str
    layout: CodeLayout
    data: dict[str, Any]
    augmentation: dict[str, Any]
    class_names: tuple[str, ...]
    count: int
    shards: tuple[Shard, ...] = ()

    def __post_init__(self) -> None:
        # As JSON reads it back (lists for tuples, text for keys), so that what was read equals what was written.
        object.__setattr__(self, "data", json.loads(json.dumps(self.data)))
        object.__setattr__(self, "augmentation", json.loads(json.dumps(self.augmentation)))

    @property
    def plan(self) -> Manifest:
        """The manifest as it was before the first row was written: without the hashes of the shards."""
        return replace(self, shards=tuple(replace(shard, sha256="") for shard in self.shards))

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest."""
        return _digest(self.fields())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the format version and its own SHA-256."""
        return {**self.fields(), "sha256": self.digest}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Manifest:
        """The manifest that :meth:`to_dict` wrote.

        Raises:
            ValueError: If it is of another format version, or was damaged or edited.
        """
        found = plain.get("format") if isinstance(plain, dict) else None
        if found != FORMAT:
            raise ValueError(f"code store of format {found}, format {FORMAT} expected")
        fields = {key: value for key, value in plain.items() if key != "sha256"}
        if plain.get("sha256") != _digest(fields):
            raise ValueError("damaged or edited, it is not that of its SHA-256")
        del fields["format"]
        fields["layout"] = CodeLayout.from_dict(fields["layout"])
        fields["class_names"] = tuple(fields["class_names"])
        fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """What the digest is of, as plain data."""
        return {
            "format": FORMAT,
            "tokenizer": self.tokenizer,
            "layout": self.layout.to_dict(),
            "data": self.data,
            "augmentation": self.augmentation,
            "class_names": list(self.class_names),
            "count": self.count,
            "shards": [asdict(shard) for shard in self.shards],
        }


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no such file; ValueError if it is unreadable."""
    try:
        return Manifest.from_dict(read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}; delete {path.parent} and extract the codes again") from error


@dataclass(frozen=True)
class _Rows:
    """Rows of a shard: codes ``[n, T]`` and labels ``[n]``."""

    codes: npt.NDArray[np.integer[Any]]
    labels: npt.NDArray[np.int64]


class _ShardFile:
    """One shard on disk: a safetensors file of ``labels`` int64 ``[n]``, then ``codes`` ``[n, T]``.

    Its header is known beforehand and holds the digest of the plan. So a file that begins with it and is of
    the right size is a shard of this extraction, whole, and where its tensors lie is known as well.
    """

    def __init__(self, path: Path, plan: str, layout: CodeLayout, count: int) -> None:
        self.path = path
        self.shape = (count, layout.length)
        self.dtype = np.dtype("<u2" if layout.vocabulary <= 2**16 else "<u4")
        labels_end = 8 * count
        codes_end = labels_end + self.dtype.itemsize * count * layout.length
        tensors = {
            "__metadata__": {"plan": plan},
            "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, labels_end]},
            "codes": {
                "dtype": f"U{8 * self.dtype.itemsize}",
                "shape": list(self.shape),
                "data_offsets": [labels_end, codes_end],
            },
        }
        text = json.dumps(tensors, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = len(text).to_bytes(8, "little") + text
        self.size = len(self.header) + codes_end
        self._mapped: _Rows | None = None

    def fault(self) -> str | None:
        """What is wrong with the file, as far as its header and size show; None where nothing is."""
        if not self.path.is_file():
            return f"{self.path} is missing: run extraction again"
        size = self.path.stat().st_size
        if size != self.size:
            return f"{self.path} has {size} bytes, {self.size} expected: delete it and run extraction again"
        with self.path.open("rb") as file:
            if file.read(len(self.header)) != self.header:
                return f"{self.path} is damaged or of another extraction: delete it and run extraction again"
        return None

    def write(self, codes: Tensor, labels: Tensor) -> None:
        """Write the file, whole or not at all."""
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(self.header)
            file.write(labels.cpu().numpy().astype("<i8").tobytes())
            file.write(codes.cpu().numpy().astype(self.dtype).tobytes())

    def rows(self) -> _Rows:
        """Its rows, memory-mapped when they are first asked for in a process."""
        if self._mapped is None:
            # One mapping for both tensors: each mapping holds a file descriptor.
            data = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r", offset=len(self.header)))
            labels_end = 8 * self.shape[0]
            codes = data[labels_end:].view(self.dtype).reshape(self.shape)
            self._mapped = _Rows(codes, data[:labels_end].view("<i8"))
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


def _shard_files(folder: Path, manifest: Manifest) -> list[_ShardFile]:
    plan = manifest.plan.digest
    return [_ShardFile(folder / shard.file, plan, manifest.layout, shard.count) for shard in manifest.shards]


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
        self._files = _shard_files(folder, manifest)
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
        manifest = _read_manifest(folder / MANIFEST)
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

    def unigram_entropy(self) -> float:
        """Nats per code of a prior that knows each grid's histogram and nothing else, averaged over positions."""
        total = 0.0
        for counts, length in zip(self.histogram(), self.layout.lengths, strict=True):
            p = counts[counts > 0] / counts.sum()
            total -= length * float(np.sum(p * np.log(p)))
        return total / self.layout.length


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
        self._files = _shard_files(self.folder, self.plan)
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
        found = _read_manifest(self.folder / MANIFEST) or _read_manifest(self.folder / PLAN)
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
            yield prefix + key, text if len(text) <= 100 else f"{text[:60]}... ({_digest({key: value})[:8]})"
