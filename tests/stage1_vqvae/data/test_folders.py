from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stage1_vqvae.data.folders import find_images
from stage1_vqvae.data.originals import printable


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
    touch(tmp_path, "car/1.jpg", "plane/1.jpg", "train/1.jpg")
    assert find_images(tmp_path, split_folders=False).class_names == ("car", "plane", "train")
    with pytest.raises(ValueError, match=r"train is named as a split, car, plane are not: .*data\.split_folders=false"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("names", "train", "validation", "classes"),
    [
        (["training/0/a.png", "training/1/b.png", "testing/0/c.png"], [0, 1], [0], ("0", "1")),
        (["train2017/cat/a.png", "train2017/dog/b.png", "val2017/dog/c.png"], [0, 1], [1], ("cat", "dog")),
        (["train/images/cat/a.png", "train/images/dog/b.png", "val/images/dog/c.png"], [0, 1], [1], ("cat", "dog")),
        (["cat/train/a.png", "dog/train/b.png", "cat/val/c.png"], [0, 1], [0], ("cat", "dog")),
        (["train/a.png", "dev/b.png"], [-1], [-1], ()),
        (["train/images/a.png", "val/images/b.png"], [-1], [-1], ()),
        (["train/x/a.png", "train/y/b.png", "eval/x/c.png"], [0, 1], [0], ("x", "y")),
        (["train/cat/a.png", "test/cat/b.png", "test/dog/b.png"], [0], [0, 1], ("cat", "dog")),
    ],
)
def test_usual_layouts(
    tmp_path: Path, names: list[str], train: list[int], validation: list[int], classes: tuple[str, ...]
) -> None:
    files = find_images(touch(tmp_path, *names))
    assert files.labels == {"train": train, "validation": validation}
    assert files.class_names == classes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a.png", "val/b.png", "unlabeled/c.png"], "train, val are named as a split, unlabeled is not"),
        (["train/a.png", "val/b.png", "preview.png"], r"train, val are named as a split, preview\.png is not"),
        (["val2017/a/b.png", "test2017/a/b.png"], "test2017, val2017 are named as splits, none as the training split"),
        (["train/a/b.png", "training/a/b.png"], "train, training are all named as the train split"),
        (["cat/train/a.png", "cat/val/b.png", "dog/c.png"], "these folders hold splits: cat; these do not: dog"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_images(touch(tmp_path, *names))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "splits", "classes"),
    [
        (["images/train/a.png", "images/val/b.png", "labels/train/a.txt", "labels/val/b.txt"], 2, ()),
        (["train/images/a.png", "val/images/b.png", "train/labels/a.txt", "val/labels/b.txt"], 2, ()),
        (["cat/a.png", "dog/b.png", "Annotations/a.xml", "Annotations/b.JSON"], 1, ("cat", "dog")),
        (
            ["cat/a.png", "dog/b.png", "@eaDir/a.png/SYNO_M.jpg", "__MACOSX/cat/._a.png", "lost+found/x.png"],
            1,
            ("cat", "dog"),
        ),
    ],
)
def test_folders_beside_the_images_are_no_classes(
    tmp_path: Path, names: list[str], splits: int, classes: tuple[str, ...]
) -> None:
    files = find_images(touch(tmp_path, *names))
    assert (len(files.paths), files.class_names) == (splits, classes)
    assert sum(map(len, files.paths.values())) == 2
    said = {Path(note.split()[2]).name for note in files.notes}
    assert said == {name.split("/")[-2] if "/labels/" in name else name.split("/")[0] for name in names} & {
        "labels",
        "Annotations",
    }


def test_pipes_and_links_that_go_in_circles_stop_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe_by_a_link.png").symlink_to("pipe.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    files = find_images(tmp_path)
    assert relative(tmp_path, files.paths["train"]) == ["a.png", "circle.png"]
    assert [one.reason for one in files.left_out] == ["no file but a pipe, a socket or a device"] * 2


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/a.png", "dog/b.png")
    list_folder = os.scandir

    def denied(path: Path) -> Any:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(ValueError, match=r"the folder .*/dog cannot be read \(Permission denied\): allow that"):
        find_images(tmp_path)


def test_a_split_that_is_not_used_is_said(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "train/a.png", "val/b.png", "test/c.png", "test/d.png"))
    assert files.notes == ("the split test (2 images) is not used",)


def test_classes_called_by_numbers_are_in_their_order(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, *(f"{number}/a.png" for number in range(1, 13))))
    assert files.class_names == tuple(map(str, range(1, 13)))


def test_what_is_passed_over_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jfif", "b.tga", "c.heic", "notes.txt", "._a.png", "metadata.csv")
    files = find_images(tmp_path)
    assert relative(tmp_path, files.paths["train"]) == ["a.jfif", "b.tga"]
    assert {Path(one.where).name: one.reason for one in files.left_out} == {
        "._a.png": "hidden",
        "c.heic": "not the ending of an image that is read",
        "metadata.csv": "a table that is not read: folders name the classes",
        "notes.txt": "not the ending of an image that is read",
    }


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "annex" / "b.png")
    assert relative(tmp_path, find_images(tmp_path).paths["train"]) == ["a.png", "b.png"]


def test_every_real_folder_is_visited_once(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    (tmp_path / "cat" / "again").symlink_to("..")
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "dog")
    (tmp_path / "cat" / "0").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "above").symlink_to(tmp_path.parent)
    files = find_images(tmp_path)
    assert relative(tmp_path, files.paths["train"]) == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert files.labels == {"train": [0, 0, 1]}
    assert {one.reason for one in files.left_out} == {"a link to a folder that is read already"}
    assert len(files.left_out) == 4


def test_folders_elsewhere_are_read_through_their_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "deep/1.png")
    touch(tmp_path / "photos", "dog/1.png")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    files = find_images(tmp_path / "photos")
    assert files.class_names == ("cat", "dog")
    assert files.labels == {"train": [0, 1]}


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    touch(tmp_path, f"{odd}.png", "a.png", f"{odd}.txt")
    files = find_images(tmp_path)
    assert relative(tmp_path, files.paths["train"]) == ["a.png", f"{odd}.png"]
    assert [Path(one.where).name for one in files.left_out] == [r"caf\xe9.txt"]
    touch(tmp_path / "photos", "cat/a.png", f"{odd}/b.png")
    with pytest.raises(ValueError, match=r"class folder caf\\xe9 of .* has no UTF-8 name: rename it"):
        find_images(tmp_path / "photos")


def test_names_are_shown_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "a\nb/1.png", "c\nd/1.png", "c\nd/e\x1b[31m.txt", "naïve, =\u00a0(1)/1.png")
    files = find_images(tmp_path)
    assert files.class_names == ("a\nb", "c\nd", "naïve, =\u00a0(1)")
    assert [Path(one.where).name for one in files.left_out] == [r"e\x1b[31m.txt"]
    assert printable("naïve,\u00a0(1)\n") == "naïve,\u00a0(1)\\n"


def test_a_single_wrapping_folder_is_passed_through(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg"), class_folders=True)
    assert files.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes.txt"], "no images below"),
        (["train/a/1.jpg", "val/notes.txt"], "no images below .*val"),
        (["a/1.jpg", "b/1.jpg", "c/1.heic"], "class folder .*c holds no images"),
        (["a/1.jpg", "b/1.jpg", "preview.png"], "images outside of the class folders of .*: 1 .*preview.png"),
    ],
)
def test_folders_that_do_not_work(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_images(touch(tmp_path, *names), class_folders=True)
    assert "\n" not in str(caught.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.files=.*nowhere is not a folder"):
        find_images(tmp_path / "nowhere", class_folders=True)
