"""The index of a published folder, ``config.json``: what lies there, and that it is what was published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stage1_vqvae.files import read_json

INDEX = "config.json"
"""The file, which is written last. The hub counts a model's downloads by those of a file of this name."""

LIBRARY = "vqvae-prior"

Part = Literal["all", "tokenizer", "prior"]
"""What of a run is published."""

PARTS: tuple[Part, ...] = ("all", "tokenizer", "prior")


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a published folder; empty of a run's folder, which has none.

    Raises:
        ValueError: If there is one of another library.
    """
    path = folder / INDEX
    if not path.exists():
        return {}
    index = read_json(path)
    if not isinstance(index, dict) or index.get("library_name") != LIBRARY:
        raise ValueError(f"{path}: it is not of a model of {LIBRARY}: give another folder or name")
    return index


def check_part(index: Mapping[str, Any], wanted: Part, name: str) -> None:
    """Raise ValueError if a published folder holds another part than is wanted, where that is known."""
    found = index.get("part", wanted)
    if found == wanted or (found == "all" and wanted == "tokenizer"):
        return
    if found == "prior":
        trained_on = str(index["tokenizer"])[:12]
        raise ValueError(f"{name} is a prior alone: give tokenizer=, that of fingerprint {trained_on}")
    if wanted == "prior":
        raise ValueError(f"{name} is a {'tokenizer' if found == 'tokenizer' else 'whole model'}, not a prior alone")
    raise ValueError(f"{name} is a tokenizer alone, without a prior to sample from")


def check_fingerprint(index: Mapping[str, Any], kind: str, found: str, name: str) -> None:
    """Raise ValueError unless a model is the one that was published, where that is known."""
    if index.get(kind, found) != found:
        raise ValueError(
            f"{name}: the {kind}'s files are of fingerprint {found[:12]}, {index[kind][:12]} was published: "
            "download it again"
        )
