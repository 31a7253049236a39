"""Small code stores for the tests of what writes and reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import sha256
from stage2_prior.code_store.manifest import Manifest
from stage2_prior.code_store.store import CodeStore
from stage2_prior.code_store.writer import CodeStoreWriter

LAYOUT = CodeLayout(((2, 2), (2, 3)), (7, 300))
A, B = "a" * 64, "b" * 64


def manifest(count: int = 10, layout: CodeLayout = LAYOUT, **changes: Any) -> Manifest:
    plain = Manifest(
        tokenizer=A,
        layout=layout,
        data={"source": "mnist5k", "split": "train", "preprocessing": {"size": 28}},
        augmentation={"copies": 1},
        class_names=("zero", "one", "two"),
        count=count,
    )
    return replace(plain, **changes)


def rows_of(count: int, layout: CodeLayout = LAYOUT, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randint(size, (count, *grid), generator=generator)
        for grid, size in zip(layout.grids, layout.codebook_sizes, strict=True)
    ]
    return layout.join(parts), torch.randint(-1, 3, (count,), generator=generator)


def write(writer: CodeStoreWriter, shards: list[int], codes: Tensor, labels: Tensor) -> None:
    for shard in shards:
        rows = slice(writer.rows(shard).start, writer.rows(shard).stop)
        writer.write(shard, codes[rows], labels[rows])


def extract(folder: Path, count: int = 10, rows_per_shard: int = 4, layout: CodeLayout = LAYOUT) -> CodeStore:
    writer = CodeStoreWriter(folder, manifest(count, layout), rows_per_shard)
    write(writer, writer.missing(), *rows_of(count, layout))
    return writer.publish()


def content(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
