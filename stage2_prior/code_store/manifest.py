"""The manifest of a code store: what its codes are of, and the files that hold them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json

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
    """The origin of a store's codes. Two extractions with equal plans give the same codes.

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
