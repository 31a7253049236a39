from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from stage2_prior.code_store.shard import ShardFile
from stage2_prior.code_store.store import CodeStore

RUNS = sorted((Path(__file__).parents[2] / "old_runs").glob("*/*/codes/*/manifest.json"))
CODES, LABELS = np.arange(12, dtype=np.uint16).reshape(3, 4), np.array([0, -1, 2])


def shard(folder: Path) -> ShardFile:
    return ShardFile(folder / "a.safetensors", "plan", 300, (3, 4))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of mapped files")
def test_rows_are_a_view_of_the_file(tmp_path: Path) -> None:
    file = shard(tmp_path)
    file.write(torch.from_numpy(CODES.astype(np.int64)), torch.from_numpy(LABELS))
    assert file.fault() is None
    rows = file.rows()
    assert rows.codes.dtype == np.uint16
    np.testing.assert_array_equal(rows.codes, CODES)
    np.testing.assert_array_equal(rows.labels, LABELS)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "a.safetensors" in line]
    assert len(mapped) == 1
    first, last = (int(edge, 16) for edge in mapped[0][0].split("-"))
    for array in (rows.codes, rows.labels):
        assert first <= array.__array_interface__["data"][0] < last


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"codes": CODES, "labels": LABELS}, {"plan": "another"}),
        ({"codes": CODES, "labels": LABELS}, None),
        ({"codes": CODES[:2], "labels": LABELS}, {"plan": "plan"}),
        ({"codes": CODES.astype(np.uint32), "labels": LABELS}, {"plan": "plan"}),
        ({"codes": CODES}, {"plan": "plan"}),
        ({"codes": CODES, "labels": LABELS, "more": LABELS}, {"plan": "plan"}),
    ],
)
def test_foreign_files_are_found(tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    assert "is damaged or of another extraction: delete it" in str(shard(tmp_path).fault())


@pytest.mark.parametrize("manifest", RUNS, ids=[str(path.parent.relative_to(path.parents[3])) for path in RUNS])
def test_stores_of_earlier_versions_are_read(manifest: Path) -> None:
    store = CodeStore.open(manifest.parent)
    store.verify()
    rows = store.__getitems__(list(range(len(store))))
    store.layout.check(rows["codes"])


def test_there_are_stores_of_earlier_versions() -> None:
    assert len(RUNS) >= 2
