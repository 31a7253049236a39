from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json, write_json
from stage2_prior.code_store.manifest import Manifest, digest_of
from stage2_prior.code_store.store import CodeStore
from stage2_prior.code_store.writer import CodeStoreWriter
from tests.support.codes import extract, flip, manifest


def test_a_manifest_comes_back_from_json() -> None:
    there = manifest(data={"size": (28, 28), "mean": 0.1, 3: None}, augmentation={"copies": 2})
    assert Manifest.from_dict(json.loads(json.dumps(there.to_dict()))) == there
    assert there.data == {"size": [28, 28], "mean": 0.1, "3": None}
    assert there.augmentation == {"copies": 2}


def test_the_order_of_keys_does_not_count() -> None:
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


@pytest.mark.parametrize(("size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_shards_are_plain_safetensors(tmp_path: Path, size: int, dtype: type) -> None:
    layout = CodeLayout(((2, 2),), (size,))
    codes, labels = torch.tensor([[0, 1, 2, size - 1]]), torch.tensor([-1])
    writer = CodeStoreWriter(tmp_path, manifest(1, layout))
    writer.write(0, codes, labels)
    writer.publish()
    tensors = safetensors.numpy.load_file(tmp_path / "codes-00000-of-00001.safetensors")
    assert tensors["codes"].dtype == dtype
    assert tensors["labels"].dtype == np.int64
    np.testing.assert_array_equal(tensors["codes"], codes)
    np.testing.assert_array_equal(tensors["labels"], labels)


def test_flipped_bits_of_a_manifest_are_detected(tmp_path: Path) -> None:
    extract(tmp_path)
    path = tmp_path / "manifest.json"
    for bit in range(0, 8 * path.stat().st_size, 17):
        flip(path, bit)
        with pytest.raises(ValueError, match=r"manifest\.json") as error:
            CodeStore.open(tmp_path)
        assert "\n" not in str(error.value)
        flip(path, bit)
    assert len(CodeStore.open(tmp_path)) == 10


@pytest.mark.parametrize("plain", [[], None, {}, {"format": 2}, {"format": 1, "sha256": ""}])
def test_a_foreign_manifest_is_refused(tmp_path: Path, plain: Any) -> None:
    write_json(tmp_path / "manifest.json", plain)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        CodeStore.open(tmp_path)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        CodeStoreWriter(tmp_path, manifest())


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    extract(tmp_path)
    path = tmp_path / "manifest.json"
    write_json(path, {**read_json(path), "format": 2})
    with pytest.raises(ValueError, match="format 2, format 1 expected"):
        CodeStore.open(tmp_path)
