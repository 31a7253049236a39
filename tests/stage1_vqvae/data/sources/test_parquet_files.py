from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from stage1_vqvae.data.sources.parquet_files import find_parquet, named_files, rows_of


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_parquet_shards_by_split(tmp_path: Path) -> None:
    touch(tmp_path, "train-00001-of-2.parquet", "train-00000-of-2.parquet", "test-0.parquet")
    found = find_parquet(tmp_path)
    assert relative(tmp_path, found["train"]) == ["train-00000-of-2.parquet", "train-00001-of-2.parquet"]
    assert relative(tmp_path, found["validation"]) == ["test-0.parquet"]


def test_parquet_splits_as_folders(tmp_path: Path) -> None:
    found = find_parquet(touch(tmp_path, "mnist/train/0000.parquet", "mnist/validation/0000.parquet"))
    assert relative(tmp_path, found["validation"]) == ["mnist/validation/0000.parquet"]


def test_parquet_without_split_names_is_all_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "b.parquet", "training_images.txt")
    assert relative(tmp_path, find_parquet(tmp_path)["train"]) == ["a.parquet", "b.parquet"]
    assert find_parquet(tmp_path / "a.parquet") == {"train": [tmp_path / "a.parquet"]}
    assert find_parquet(tmp_path / "*.parquet") == find_parquet(tmp_path)


def test_files_of_one_split_are_what_is_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, "testing.parquet", "dev/x.parquet", "dev/y.parquet")
    assert find_parquet(tmp_path / "testing.parquet") == {"train": [tmp_path / "testing.parquet"]}
    assert relative(tmp_path, find_parquet(tmp_path / "dev")["train"]) == ["dev/x.parquet", "dev/y.parquet"]


def test_names_that_end_with_a_split(tmp_path: Path) -> None:
    found = find_parquet(touch(tmp_path, "digits_train.parquet", "digits_test.parquet"))
    assert relative(tmp_path, found["train"] + found["validation"]) == ["digits_train.parquet", "digits_test.parquet"]


def test_parquet_problems(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parquet files there"):
        find_parquet(tmp_path)
    touch(tmp_path, "train-0.parquet", "extra.parquet")
    with pytest.raises(ValueError, match=r"train-0\.parquet is named as a split, extra\.parquet is not: rename"):
        find_parquet(tmp_path)


@pytest.mark.parametrize("names", [("a.parquet", "testing.parquet"), ("validation-0.parquet", "test-0.parquet")])
def test_held_out_files_are_never_trained_on_by_chance(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is named as a split"):
        find_parquet(touch(tmp_path, *names))


def write(path: Path, column: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), path)
    return path


def test_files_that_rows_name_are_found_beside_their_shard(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    held = write(tmp_path / "held.parquet", [{"bytes": b"x", "path": "a.png"}])
    mixed = write(
        tmp_path / "b" / "mixed.parquet", [{"bytes": b"x", "path": "a.png"}, {"bytes": None, "path": "c/b.png"}]
    )
    names = write(tmp_path / "names.parquet", ["one.png", "/data/two.png", None])
    assert named_files([held, mixed], "auto") == [tmp_path / "b" / "c" / "b.png"]
    assert named_files([names], "auto") == []  # text may be anything
    assert named_files([names], "image") == [Path("/data/two.png"), tmp_path / "one.png"]
    assert named_files([held], "missing") == []
    for form in (pyarrow.large_string(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())):
        other = write(tmp_path / "other.parquet", pyarrow.array(["one.png", None], pyarrow.string()).cast(form))
        assert named_files([other], "image") == [tmp_path / "one.png"]
    assert rows_of([mixed, names]) == [2, 3]
