from __future__ import annotations

import json
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from stage1_vqvae.codes import CodeLayout
from stage2_prior.code_store import CodeBatch, CodeStore, CodeStoreWriter, Manifest
from stage2_prior.files import read_json, sha256, write_json

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


def batch(draws: list[CodeBatch]) -> Any:
    return draws


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


# What is stored


@settings(max_examples=25, deadline=None)
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


def test_a_finished_folder_holds_shards_and_manifest_only(tmp_path: Path) -> None:
    store = extract(tmp_path)
    shards = [f"codes-0000{n}-of-00003.safetensors" for n in range(3)]
    assert sorted(content(tmp_path)) == [*shards, "manifest.json"]
    assert [(shard.file, shard.count) for shard in store.manifest.shards] == list(zip(shards, [4, 4, 2], strict=True))
    assert [shard.sha256 for shard in store.manifest.shards] == [content(tmp_path)[name] for name in shards]
    assert store.class_names == ("zero", "one", "two")


def test_a_manifest_comes_back_from_json() -> None:
    there = manifest(data={"size": (28, 28), "mean": 0.1, 3: None}, augmentation={"copies": 2})
    assert Manifest.from_dict(json.loads(json.dumps(there.to_dict()))) == there


def test_histogram_and_entropy_are_those_of_the_grids(tmp_path: Path) -> None:
    store = extract(tmp_path)
    codes, _ = rows_of(10)
    parts = [codes[:, :4].numpy(), codes[:, 4:].numpy()]
    entropy = 0.0
    for counts, part, size in zip(store.histogram(), parts, (7, 300), strict=True):
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


# Killed and resumed


@pytest.mark.parametrize("written", [[], [0], [1], [0, 2], [0, 1, 2]])
def test_a_killed_extraction_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, written: list[int]) -> None:
    extract(tmp_path / "whole")
    folder = tmp_path / "killed"
    codes, labels = rows_of(10)
    write(CodeStoreWriter(folder, manifest(), 4), written, codes, labels)
    (folder / ".tmp-0123456789ab-codes-00001-of-00003.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="run extraction again"):
        CodeStore.open(folder)
    writer = CodeStoreWriter(folder, manifest(), 4)
    assert writer.missing() == [shard for shard in range(3) if shard not in written]
    write(writer, writer.missing(), codes, labels)
    writer.publish()
    assert content(folder) == content(tmp_path / "whole")


def test_killed_between_manifest_and_the_end_it_is_finished(tmp_path: Path) -> None:
    extract(tmp_path)
    whole = content(tmp_path)
    write_json(tmp_path / "plan.json", CodeStoreWriter(tmp_path, manifest(), 4).plan.to_dict())
    assert len(CodeStore.open(tmp_path)) == 10
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    assert writer.missing() == []
    writer.publish()
    assert content(tmp_path) == whole


def test_a_partly_written_shard_is_written_again(tmp_path: Path) -> None:
    extract(tmp_path / "whole")
    writer = CodeStoreWriter(tmp_path / "cut", manifest(), 4)
    write(writer, [0, 1, 2], *rows_of(10))
    cut = tmp_path / "cut" / "codes-00001-of-00003.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    assert writer.missing() == [1]
    write(writer, [1], *rows_of(10))
    writer.publish()
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def _extract_rank(folder: Path, rank: int, world: int) -> None:
    writer = CodeStoreWriter(folder, manifest(), 1)
    write(writer, [shard for shard in writer.missing() if shard % world == rank], *rows_of(10))


def test_processes_write_one_store_together(tmp_path: Path) -> None:
    extract(tmp_path / "alone", rows_per_shard=1)
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_extract_rank, args=(tmp_path / "together", rank, 3)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    CodeStoreWriter(tmp_path / "together", manifest(), 1).publish().verify()
    assert content(tmp_path / "together") == content(tmp_path / "alone")


def test_a_store_is_not_published_before_all_shards_are_there(tmp_path: Path) -> None:
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    write(writer, [0, 2], *rows_of(10))
    with pytest.raises(ValueError, match=r"1 of 3 shards are not written.*codes-00001-of-00003"):
        writer.publish()
    assert not (tmp_path / "manifest.json").exists()


# Never another extraction's codes

OTHERS = {
    "tokenizer": manifest(tokenizer=B),
    "layout.codebook_sizes": manifest(layout=CodeLayout(LAYOUT.grids, (8, 300))),
    "layout.grids": manifest(layout=CodeLayout(((2, 2), (3, 2)), (7, 300))),
    "data.preprocessing.size": manifest(data={**manifest().data, "preprocessing": {"size": 32}}),
    "data.source": manifest(data={**manifest().data, "source": "x" * 1000}),
    "augmentation.copies": manifest(augmentation={"copies": 10}),
    "class_names": manifest(class_names=("one", "zero", "two")),
    "count": manifest(11),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_another_extraction_is_refused_by_what_differs(tmp_path: Path, name: str, finished: bool) -> None:
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    write(writer, [0, 1, 2], *rows_of(10))
    if finished:
        writer.publish()
    before = content(tmp_path)
    with pytest.raises(ValueError, match=f"another extraction: {name} .* expected, .* found") as error:
        CodeStoreWriter(tmp_path, OTHERS[name], 4)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert content(tmp_path) == before


def test_shards_of_another_size_are_refused(tmp_path: Path) -> None:
    extract(tmp_path, rows_per_shard=4)
    with pytest.raises(ValueError, match="another extraction: shards"):
        CodeStoreWriter(tmp_path, manifest(), 5)


def test_both_fingerprints_are_named(tmp_path: Path) -> None:
    extract(tmp_path)
    assert len(CodeStore.open(tmp_path, A)) == 10
    with pytest.raises(ValueError, match=f"{B} expected, {A} found") as error:
        CodeStore.open(tmp_path, B)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f'tokenizer "{B}" expected, "{A}" found'):
        CodeStoreWriter(tmp_path, manifest(tokenizer=B), 4)


def test_of_two_extractions_in_one_folder_one_goes_on(tmp_path: Path) -> None:
    first = CodeStoreWriter(tmp_path, manifest(), 4)
    write(first, [0], *rows_of(10))
    # As if both had found the folder empty.
    (tmp_path / "plan.json").unlink()
    second = CodeStoreWriter(tmp_path, manifest(tokenizer=B), 4)
    assert second.missing() == [0, 1, 2]
    for step in (lambda: write(first, [1], *rows_of(10)), first.publish):
        with pytest.raises(ValueError, match="another extraction: tokenizer"):
            step()
    write(second, second.missing(), *rows_of(10, seed=1))
    assert torch.equal(second.publish().__getitems__(range(10))["codes"], rows_of(10, seed=1)[0])


def test_a_deleted_manifest_does_not_make_old_codes_anothers(tmp_path: Path) -> None:
    extract(tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert CodeStoreWriter(tmp_path, manifest(tokenizer=B), 4).missing() == [0, 1, 2]


def test_a_shard_of_another_store_is_noticed(tmp_path: Path) -> None:
    extract(tmp_path / "one")
    writer = CodeStoreWriter(tmp_path / "two", manifest(tokenizer=B), 4)
    write(writer, writer.missing(), *rows_of(10))
    writer.publish()
    name = "codes-00001-of-00003.safetensors"
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} is damaged or of another extraction"):
        CodeStore.open(tmp_path / "one")


def test_the_first_written_shard_stays(tmp_path: Path) -> None:
    store = extract(tmp_path)
    before = content(tmp_path)
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    write(writer, [0, 1, 2], *rows_of(10, seed=1))
    assert content(tmp_path) == before
    assert torch.equal(store.__getitems__(range(10))["codes"], rows_of(10)[0])


# Damage


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


def test_a_lost_shard_of_a_finished_store_is_extracted_again(tmp_path: Path) -> None:
    extract(tmp_path)
    before = content(tmp_path)
    (tmp_path / "codes-00001-of-00003.safetensors").unlink()
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    assert writer.missing() == [1]
    write(writer, [1], *rows_of(10))
    writer.publish()
    assert content(tmp_path) == before


def test_a_damaged_shard_is_never_published_anew(tmp_path: Path) -> None:
    shard = tmp_path / extract(tmp_path).manifest.shards[1].file
    flip(shard, 8 * shard.stat().st_size - 1)
    with pytest.raises(ValueError, match="SHA-256"):
        CodeStoreWriter(tmp_path, manifest(), 4).publish()


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


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no finished code store.*run extraction"):
        CodeStore.open(tmp_path / "nowhere")


def test_a_full_disk_leaves_no_half_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CodeStoreWriter(tmp_path, manifest(), 4)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(writer, [0], *rows_of(10))
    assert sorted(content(tmp_path)) == ["plan.json"]
    assert writer.missing() == [0, 1, 2]


# Wrong input

CODES, LABELS = rows_of(4)


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (CODES[:3], LABELS[:3], r"codes \[4, 10\] and labels \[4\] expected, got \[3, 10\] and \[3\]"),
        (CODES, LABELS[:3], r"got \[4, 10\] and \[3\]"),
        (CODES[:, :9], LABELS, r"got \[4, 9\]"),
        (CODES[:, :, None], LABELS, r"got \[4, 10, 1\]"),
        (CODES.clone().fill_(7), LABELS, "codes of grid"),
        (CODES.clone().fill_(-1), LABELS, "codes of grid"),
        (CODES, LABELS.clone().fill_(3), "labels are -1"),
        (CODES, LABELS.clone().fill_(-2), "labels are -1"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, codes: Tensor, labels: Tensor, message: str) -> None:
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    with pytest.raises(ValueError, match=message):
        writer.write(0, codes, labels)
    assert writer.missing() == [0, 1, 2]


@pytest.mark.parametrize(("count", "rows_per_shard"), [(0, 4), (10, 0)])
def test_an_empty_store_is_refused(tmp_path: Path, count: int, rows_per_shard: int) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        CodeStoreWriter(tmp_path, manifest(count), rows_per_shard)
    assert list(tmp_path.iterdir()) == []
