"""What a store of codes is of, and the files that hold it: the manifest and the shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json, replacing

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
        return digest_of(self.fields())

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
        if plain.get("sha256") != digest_of(fields):
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


def digest_of(plain: dict[str, Any]) -> str:
    """SHA-256 of plain data, whatever the order of its keys; hexadecimal."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no such file; ValueError if it is unreadable."""
    try:
        return Manifest.from_dict(read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}; delete {path.parent} and extract the codes again") from error


@dataclass(frozen=True)
class Rows:
    """Rows of a shard: codes ``[n, T]`` and labels ``[n]``."""

    codes: npt.NDArray[np.integer[Any]]
    labels: npt.NDArray[np.int64]


class ShardFile:
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
        self._mapped: Rows | None = None

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

    def rows(self) -> Rows:
        """Its rows, memory-mapped when they are first asked for in a process."""
        if self._mapped is None:
            # One mapping for both tensors: each mapping holds a file descriptor.
            data = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r", offset=len(self.header)))
            labels_end = 8 * self.shape[0]
            codes = data[labels_end:].view(self.dtype).reshape(self.shape)
            self._mapped = Rows(codes, data[:labels_end].view("<i8"))
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


def shard_files(folder: Path, manifest: Manifest) -> list[ShardFile]:
    """The shards of a manifest in a folder, whether they are written yet or not."""
    plan = manifest.plan.digest
    return [ShardFile(folder / shard.file, plan, manifest.layout, shard.count) for shard in manifest.shards]
