from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stage1_vqvae.codes import CodeLayout
from stage2_prior.code_store.store import CodeBatch, CodeStore
from stage2_prior.code_store.writer import CodeStoreWriter
from tests.support.codes import A, B, extract, flip, manifest, rows_of, write


def batch(draws: list[CodeBatch]) -> Any:
    return draws


@settings(max_examples=25)
@given(
    grids=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3),
    size=st.sampled_from([1, 2, 255, 65536, 65537, 2**20]),
    count=st.integers(1, 9),
    rows_per_shard=st.integers(1, 10),
    epoch=st.integers(0, 3),
)
def test_codes_and_labels_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    grids: list[tuple[int, ...]],
    size: int,
    count: int,
    rows_per_shard: int,
    epoch: int,
) -> None:
    layout = CodeLayout(tuple(grids), (size,) * len(grids))
    codes, labels = rows_of(count, layout)
    codes[0, 0], labels[0] = size - 1, -1
    folder = tmp_path_factory.mktemp("store")
    writer = CodeStoreWriter(folder, manifest(count, layout), rows_per_shard)
    write(writer, writer.missing(), codes, labels)
    store = writer.publish()
    order = torch.randperm(count)
    found = store.__getitems__((order + epoch * count).tolist())
    assert len(store) == count
    assert store.layout == layout
    assert found["codes"].dtype == found["labels"].dtype == found["draws"].dtype == torch.int64
    assert torch.equal(found["codes"], codes[order])
    assert torch.equal(found["labels"], labels[order])
    assert torch.equal(found["draws"], order + epoch * count)


@pytest.mark.parametrize("copies", [None, 1, 3])
def test_images_of_each_class_are_counted_without_their_copies(tmp_path: Path, copies: int | None) -> None:
    augmentation, copies = {} if copies is None else {"copies": copies}, copies or 1  # none are mentioned: one
    codes, _ = rows_of(4 * copies)
    labels = torch.tensor([2, 0, 2, -1] * copies)
    described = replace(manifest(4 * copies), class_names=("a", "b", "c"), augmentation=augmentation)
    writer = CodeStoreWriter(tmp_path, described, rows_per_shard=5)
    write(writer, writer.missing(), codes, labels)
    assert writer.publish().class_counts() == [1, 0, 2]


def test_histogram_and_entropy_are_those_of_the_grids(tmp_path: Path) -> None:
    store = extract(tmp_path)
    codes, _ = rows_of(10)
    parts = [codes[:, :4].numpy(), codes[:, 4:].numpy()]
    entropy = 0.0
    for counts, part, size in zip(store.histogram(), parts, (7, 300), strict=True):
        assert counts.dtype == np.int64
        assert counts.tolist() == [int((part == code).sum()) for code in range(size)]
        p = np.unique(part, return_counts=True)[1] / part.size
        entropy -= part.shape[1] * (p * np.log(p)).sum() / 10
    assert store.unigram_entropy() == pytest.approx(entropy)


def test_a_codebook_of_one_code_has_no_entropy(tmp_path: Path) -> None:
    assert extract(tmp_path, layout=CodeLayout(((2, 2),), (1,))).unigram_entropy() == 0.0


# Reading in workers


def test_it_is_pickled_without_its_codes(tmp_path: Path) -> None:
    store = extract(tmp_path, count=2000, rows_per_shard=2000)
    before = store.__getitems__([3])
    travelling = pickle.dumps(store)
    assert len(travelling) < 5000
    assert torch.equal(pickle.loads(travelling).__getitems__([3])["codes"], before["codes"])


def test_workers_read_it(tmp_path: Path) -> None:
    store = extract(tmp_path)
    draws = list(range(10, 30))
    loader = DataLoader(store, batch_size=5, sampler=draws, collate_fn=batch, num_workers=2)
    batches = list(loader)
    codes, _ = rows_of(10)
    assert torch.cat([each["draws"] for each in batches]).tolist() == draws
    assert torch.equal(torch.cat([each["codes"] for each in batches]), codes.repeat(2, 1))


# Foreign, incomplete or damaged


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no finished code store.*run extraction"):
        CodeStore.open(tmp_path / "nowhere")


def test_both_fingerprints_are_named(tmp_path: Path) -> None:
    extract(tmp_path)
    assert len(CodeStore.open(tmp_path, A)) == 10
    with pytest.raises(ValueError, match=f"{B} expected, {A} found") as error:
        CodeStore.open(tmp_path, B)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f'tokenizer "{B}" expected, "{A}" found'):
        CodeStoreWriter(tmp_path, manifest(tokenizer=B), 4)


def test_a_shard_of_another_store_is_noticed(tmp_path: Path) -> None:
    extract(tmp_path / "one")
    writer = CodeStoreWriter(tmp_path / "two", manifest(tokenizer=B), 4)
    write(writer, writer.missing(), *rows_of(10))
    writer.publish()
    name = "codes-00001-of-00003.safetensors"
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} is damaged or of another extraction"):
        CodeStore.open(tmp_path / "one")


def test_flipped_bits_of_a_shard_are_detected(tmp_path: Path) -> None:
    store = extract(tmp_path)
    shard = tmp_path / store.manifest.shards[1].file
    store.verify()
    for bit in range(0, 8 * shard.stat().st_size, 61):
        flip(shard, bit)
        with pytest.raises(ValueError, match=r"codes-00001-of-00003.* is damaged"):
            CodeStore.open(tmp_path).verify()
        flip(shard, bit)
    CodeStore.open(tmp_path).verify()


@pytest.mark.parametrize("size", [0, 7, 100, -1, "missing", "longer"])
def test_missing_and_truncated_shards_are_refused_at_open(tmp_path: Path, size: int | str) -> None:
    shard = tmp_path / extract(tmp_path).manifest.shards[2].file
    data = shard.read_bytes()
    shard.unlink()
    if size != "missing":
        shard.write_bytes(data + b"\0" if isinstance(size, str) else data[:size])
    with pytest.raises(ValueError, match=r"codes-00002-of-00003.*run extraction again") as error:
        CodeStore.open(tmp_path)
    assert "\n" not in str(error.value)
