from __future__ import annotations

from typing import Any

import pytest

from stage1_vqvae.data.labels import in_order, number_labels


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["b", "a", "b"], ["a", "b"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["02", "1"], ["1", "02"]),
        (["-1", "10", "-10", "2"], ["-10", "-1", "2", "10"]),
        ([], []),
    ],
)
def test_whole_numbers_are_in_their_order(names: list[str], expected: list[str]) -> None:
    assert in_order(names) == expected


def test_classes_are_the_values_of_all_splits() -> None:
    labels = number_labels({"train": ["9", "10", None, ""], "validation": ["1"]}, "labels")
    assert labels.class_names == ("1", "9", "10")
    assert {split: values.tolist() for split, values in labels.by_split.items()} == {
        "train": [1, 2, -1, -1],
        "validation": [0],
    }


def test_declared_classes_keep_their_numbers() -> None:
    labels = number_labels({"train": [2, 0, -1]}, "labels", ["zebra", "ant", "bee"])
    assert labels.class_names == ("zebra", "ant", "bee")
    assert labels.by_split["train"].tolist() == [2, 0, -1]
    with pytest.raises(ValueError, match="the labels: 3 is not among the 3 classes"):
        number_labels({"train": [3]}, "labels", ["zebra", "ant", "bee"])


@pytest.mark.parametrize("values", [[0.5], [[1, 2]], [1, "a"], [True]])
def test_other_values_are_no_labels(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="the labels are neither all integers nor all strings: do this"):
        number_labels({"train": values}, "labels", fix="do this")


def test_captions_are_noticed() -> None:
    captions = [f"a picture of {number}" for number in range(10)]
    assert number_labels({"train": captions}, "labels", fix="do this").notes == (
        "the labels are 10 different ones for 10 images, as captions are, not classes: do this",
    )
    assert number_labels({"train": captions[:9]}, "labels").notes == ()  # a class for each of a few images
    assert number_labels({"train": [*captions, captions[0]]}, "labels").notes == ()
