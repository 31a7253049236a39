from __future__ import annotations

from pathlib import Path

import pytest

from stage1_vqvae.data.files import choose_splits, file_identity, find_images, find_parquet


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_class_folders_are_sorted_and_may_be_nested(tmp_path: Path) -> None:
    touch(tmp_path, "dog/a.PNG", "cat/b.jpg", "cat/more/deep/a.jpeg", "cat/notes.txt", ".thumbs/x.jpg", "readme.md")
    files = find_images(tmp_path, class_folders=True)
    assert relative(tmp_path, files.paths["train"]) == ["cat/b.jpg", "cat/more/deep/a.jpeg", "dog/a.PNG"]
    assert files.labels == {"train": [0, 0, 1]}
    assert files.class_names == ("cat", "dog")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "b.jpg", "a.png", "test_1.jpg"), class_folders=True)
    assert relative(tmp_path, files.paths["train"]) == ["a.png", "b.jpg", "test_1.jpg"]
    assert files.labels == {"train": [-1, -1, -1]}
    assert files.class_names == ()


def test_class_folders_can_be_ignored(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "a.png", "x/b.png"), class_folders=False)
    assert files.labels == {"train": [-1, -1]}
    assert files.class_names == ()


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/b/1.jpg", "train/a/1.jpg", "val/b/2.jpg", "test/a/3.jpg")
    files = find_images(tmp_path, class_folders=True)
    assert relative(tmp_path, files.paths["validation"]) == ["val/b/2.jpg"]
    assert files.labels == {"train": [0, 1], "validation": [1]}


def test_test_serves_as_validation_also_without_labels(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/3.jpg"), class_folders=True)
    assert files.labels == {"train": [0, 1], "validation": [-1]}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "car/1.jpg", "plane/1.jpg", "train/1.jpg"), class_folders=True)
    assert files.class_names == ("car", "plane", "train")


def test_a_single_wrapping_folder_is_passed_through(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg"), class_folders=True)
    assert files.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes.txt"], "no images below"),
        (["train/a/1.jpg", "val/notes.txt"], "no images below .*val"),
        (["a/1.jpg", "b/1.jpg", "c/notes.txt"], "class folder .*c holds no images"),
        (["a/1.jpg", "b/1.jpg", "preview.png"], "1 images lie outside of the class folders .*preview.png"),
    ],
)
def test_folders_that_do_not_work(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_images(touch(tmp_path, *names), class_folders=True)
    assert "\n" not in str(caught.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.files=.*nowhere is not a folder"):
        find_images(tmp_path / "nowhere", class_folders=True)


def test_parquet_shards_by_split(tmp_path: Path) -> None:
    touch(tmp_path, "train-00001-of-2.parquet", "train-00000-of-2.parquet", "test-0.parquet")
    found = find_parquet(tmp_path)
    assert relative(tmp_path, found["train"]) == ["train-00000-of-2.parquet", "train-00001-of-2.parquet"]
    assert relative(tmp_path, found["validation"]) == ["test-0.parquet"]


def test_parquet_splits_as_folders(tmp_path: Path) -> None:
    found = find_parquet(touch(tmp_path, "mnist/train/0000.parquet", "mnist/validation/0000.parquet"))
    assert relative(tmp_path, found["validation"]) == ["mnist/validation/0000.parquet"]


def test_parquet_without_split_names_is_all_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "training_images.txt", "testing.parquet")
    assert relative(tmp_path, find_parquet(tmp_path)["train"]) == ["a.parquet", "testing.parquet"]
    assert find_parquet(tmp_path / "testing.parquet") == {"train": [tmp_path / "testing.parquet"]}
    assert find_parquet(tmp_path / "*.parquet") == find_parquet(tmp_path)


def test_parquet_problems(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parquet files there"):
        find_parquet(tmp_path)
    touch(tmp_path, "train-0.parquet", "extra.parquet")
    with pytest.raises(ValueError, match=r"extra\.parquet is named after no split"):
        find_parquet(tmp_path)


def test_splits_are_chosen_by_name() -> None:
    assert choose_splits({"test": 1, "train": 2, "validation": 3}) == {"train": 2, "validation": 3}
    assert choose_splits({"train": 2, "test": 1, "extra": 0}) == {"train": 2, "validation": 1}
    assert choose_splits({"everything": 5}) == {"train": 5}
    with pytest.raises(ValueError, match="splits a, b, expected one named train"):
        choose_splits({"b": 1, "a": 2})


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    before = file_identity([path])
    assert file_identity([path]) == before
    path.write_bytes(b"22")
    assert file_identity([path]) != before
