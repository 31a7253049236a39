"""The block that says what images were found."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.training.image_report import report_images
from stage1_vqvae.data import Augmentation, ImageData, ImageSplit, LabelledImages
from stage1_vqvae.data.originals import LeftOut


class NoImages:
    def read(self, rows):
        raise NotImplementedError


def split(labels):
    images = LabelledImages(NoImages(), np.array(labels), np.zeros((len(labels), 32), dtype=np.uint8))
    return ImageSplit(images, np.arange(len(labels)), {"source": "folder [pets]"})


def data(train, validation, names):
    return ImageData(split(train), split(validation), names, (28, 32), 3, Augmentation(), 0, "held back by content")


def test_splits_classes_and_counts(capsys):
    report_images(data([0] * 1200 + [1, -1], [1], ("cat", "[dog]")), None)
    assert capsys.readouterr().out.splitlines() == [
        "images: folder [pets], 28×32, RGB",
        "  train          1,202  cat: 1,200, [dog]: 1, 1 without a class",
        "  validation         1  [dog]: 1 (held back by content)",
    ]


def test_no_classes(capsys):
    report_images(data([-1] * 3, [-1], ()), None)
    assert "  train              3  no classes\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([2, 2, 2], "2 each of c0, c1, c2"),
        ([2] * 12, "2 each of c0, c1, c10, c11, c2, c3, c4, c5, c6, c7 and 2 more"),
        ([*range(1, 12)], "11 classes of 1 (class c0) to 11 (class c10) images"),
    ],
)
def test_many_classes(capsys, counts, said):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    report_images(data(labels, [0], tuple(f"c{label}" for label in range(len(counts)))), None)
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {said}")


def test_classes_that_only_the_validation_split_has_are_said(capsys):
    report_images(data([0, 0], [1], ("cat", "dog", "cow")), None)
    assert "  ! no training images of 2 of 3 classes, which are not drawn: cow, dog" in capsys.readouterr().out


def test_what_is_left_out_is_counted_by_reason_and_listed(capsys, tmp_path):
    bad = LeftOut("train", "a.png", "no [image]")
    hidden = [LeftOut("", f".{number}", "hidden") for number in range(3)]
    images = replace(data([0], [0], ("cat",)), left_out=(bad, *hidden), unreadable=1, notes=("a note",))
    report_images(images, str(tmp_path))
    assert capsys.readouterr().out.splitlines()[3:] == [
        f"  left out           4  listed in {tmp_path}/quarantine.csv",
        "                     1  cannot be read, the first is a.png (no [image])",
        "                     3  hidden",
        "  ! a note",
    ]
    rows = (tmp_path / "quarantine.csv").read_text().splitlines()
    assert rows == ["split,path,reason", "train,a.png,no [image]", ",.0,hidden", ",.1,hidden", ",.2,hidden"]
