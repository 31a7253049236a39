from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import write_json
from stage2_prior.code_store.store import CodeStore
from stage2_prior.code_store.writer import CodeStoreWriter
from tests.support.codes import LAYOUT, B, content, extract, flip, manifest, rows_of, write


def test_a_finished_folder_holds_shards_and_manifest_only(tmp_path: Path) -> None:
    store = extract(tmp_path)
    shards = [f"codes-0000{n}-of-00003.safetensors" for n in range(3)]
    assert sorted(content(tmp_path)) == [*shards, "manifest.json"]
    assert [(shard.file, shard.count) for shard in store.manifest.shards] == list(zip(shards, [4, 4, 2], strict=True))
    assert [shard.sha256 for shard in store.manifest.shards] == [content(tmp_path)[name] for name in shards]
    assert store.class_names == ("zero", "one", "two")


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


def test_what_differs_is_shown_whole_if_it_fits(tmp_path: Path) -> None:
    CodeStoreWriter(tmp_path, manifest(), 4)
    for length, shown in [(98, "x" * 98 + '" expected'), (99, "x" * 59 + r"\.\.\. \([0-9a-f]{8}\) expected")]:
        with pytest.raises(ValueError, match=f'data.source "{shown}, "mnist5k" found'):  # 100 characters with quotes
            CodeStoreWriter(tmp_path, manifest(data={**manifest().data, "source": "x" * length}), 4)


def test_shards_of_another_size_are_refused(tmp_path: Path) -> None:
    extract(tmp_path, rows_per_shard=4)
    with pytest.raises(ValueError, match="another extraction: shards"):
        CodeStoreWriter(tmp_path, manifest(), 5)


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


def test_the_first_written_shard_stays(tmp_path: Path) -> None:
    store = extract(tmp_path)
    before = content(tmp_path)
    writer = CodeStoreWriter(tmp_path, manifest(), 4)
    write(writer, [0, 1, 2], *rows_of(10, seed=1))
    assert content(tmp_path) == before
    assert torch.equal(store.__getitems__(range(10))["codes"], rows_of(10)[0])


# Damage


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
