from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage1_vqvae.data import Arrays, ImageData, Numpy

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


def common(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return {"image_size": [4, 5], "channels": 3, "cache": str(tmp_path / "cache")} | settings


def images(data: ImageData) -> set[bytes]:
    splits = (data.train, data.validation)
    return {
        image.numpy().tobytes() for split in splits for image in split.__getitems__(list(range(len(split))))["images"]
    }


def test_an_npy_file_of_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    data = Numpy(files=str(tmp_path / "a.npy"), **common(tmp_path)).open()
    assert images(data) == {image.tobytes() for image in PIXELS}
    assert data.class_names == ()
    assert data.train.description["source"] == "numpy a.npy"


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS[..., 0])
    np.save(tmp_path / "b.npy", np.array(["cat", "dog", "cow"])[LABELS])
    files = {"files": str(tmp_path / "a.npy"), "labels": str(tmp_path / "b.npy")}
    data = Numpy(**files, **common(tmp_path, channels=1)).open()
    assert data.class_names == ("cat", "cow", "dog")
    counts = np.add(data.train.class_counts(3), data.validation.class_counts(3))
    assert counts.tolist() == [10, 10, 10]
    batch = data.train.__getitems__([0])
    row = next(row for row in range(30) if (PIXELS[row, ..., 0] == batch["images"][0, ..., 0].numpy()).all())
    assert data.class_names[int(batch["labels"])] == ("cat", "dog", "cow")[row % 3]


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels"),
        ("x", "y"),
        ("arr_0", "label"),
        ("train_images", "train_labels"),
        ("x_train", "y_train"),
        ("trainImages", "trainLabels"),
        ("Images", "label"),
    ],
)
def test_arrays_of_an_npz_file_are_told_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **{names[0]: PIXELS, names[1]: LABELS[:, None]})
    data = Numpy(files=str(tmp_path / "a.npz"), **common(tmp_path)).open()
    assert images(data) == {image.tobytes() for image in PIXELS}
    assert data.class_names == ("0", "1", "2")
    unlabelled = Numpy(files=str(tmp_path / "a.npz"), labels=None, **common(tmp_path)).open()
    assert unlabelled.class_names == ()


def test_splits_of_an_npz_file(tmp_path: Path) -> None:
    arrays = {"x_train": PIXELS[:20], "y_train": LABELS[:20], "x_test": PIXELS[20:], "y_test": LABELS[20:]}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    data = Numpy(files=str(tmp_path / "a.npz"), **common(tmp_path)).open()
    assert (len(data.train), len(data.validation)) == (20, 10)
    assert data.validation.labels.tolist() == LABELS[20:].tolist()


def test_arrays_and_splits_that_are_not_used_are_said(tmp_path: Path) -> None:
    """Names of classes and numbers of images are neither labels nor images."""
    more = {"label_names": np.array(["a", "b"]), "image_ids": np.arange(20), "val_x": PIXELS[20:25]}
    splits = {"train_x": PIXELS[:20], "test_x": PIXELS[25:]}
    np.savez(tmp_path / "a.npz", **more, **splits)
    data = Numpy(files=str(tmp_path / "a.npz"), **common(tmp_path)).open()
    assert images(data) == {image.tobytes() for image in PIXELS[:25]}
    assert data.class_names == ()
    assert data.notes == ("the split test (5 images) is not used", "arrays that are not used: image_ids, label_names")


def test_other_numbers_are_scaled_over_the_set(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 30)[:, None, None].repeat(4, 1).repeat(5, 2)
    data = Arrays(images=values.astype(np.float32), **common(tmp_path, channels=1)).open()
    levels = sorted(int(np.frombuffer(image, dtype=np.uint8)[0]) for image in images(data))
    assert levels == np.rint(np.linspace(0, 255, 30)).astype(int).tolist()
    assert data.train.description["preprocessing"]["range"] == [0.0, 1.0]
    counts = Arrays(images=(values * 4000).astype(np.uint16), **common(tmp_path, channels=1)).open()
    assert counts.train.description["preprocessing"]["range"] == [0.0, 4095.0]
    given = Arrays(images=(values * 4000).astype(np.int32), range=[0, 2000], **common(tmp_path, channels=1)).open()
    assert given.train.description["preprocessing"]["range"] == [0.0, 2000.0]
    assert max(max(image) for image in images(given)) == 255


def test_arrays_in_memory_are_the_same_as_in_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    saved = Numpy(files=str(tmp_path / "a.npz"), **common(tmp_path)).open()
    held = Arrays(images=PIXELS, labels=LABELS, **common(tmp_path)).open()
    assert held.train.description["digest"] == saved.train.description["digest"]
    other = Arrays(images=PIXELS, labels=LABELS[::-1], **common(tmp_path)).open()
    assert other.train.description["digest"] != held.train.description["digest"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": PIXELS}, "holds the arrays a, expected one named images, or x"),
        ({"images": PIXELS, "labels": LABELS[:5]}, r"labels \[30\] expected for the train split, got \[5\]"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, r"got \[30, 3, 4, 5\]; move the channels to the end"),
        ({"images": PIXELS[:, 0, 0]}, r"\[N, H, W, C\] or \[N, H, W\] .* expected, got \[30, 3\]"),
        ({"images": PIXELS[:0]}, "empty array"),
        ({"images": PIXELS.astype("U")}, "images of numbers expected"),
        ({"images": PIXELS, "labels": LABELS + 0.5}, "neither all integers nor all strings: set data.labels=null"),
        ({"images": PIXELS, "fine_labels": LABELS, "coarse_labels": LABELS}, "keep one .* or set data.labels=null"),
        ({"images": PIXELS, "x": PIXELS}, "images and x may both be the images: keep one of them in the file$"),
        ({"x_train": PIXELS, "y_test": LABELS}, "labels .30. expected for the train split"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        Numpy(files=str(tmp_path / "a.npz"), **common(tmp_path)).open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read .*save it again") as caught:
        Numpy(files=str(tmp_path / "a.npy"), **common(tmp_path)).open()
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"a \.npy or \.npz file expected"):
        Numpy(files=str(tmp_path / "b.npy"), **common(tmp_path)).open()


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        Numpy(files=str(tmp_path / "a.npy"), **common(tmp_path)).open()
