from __future__ import annotations

import pytest

from stage1_vqvae.data.splits import choose_splits, listed, role_of


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", "train training Train train2017 train-00000-of-00002 train_images digits_train x-training"),
        ("validation", "validation valid val dev eval evaluation VAL val2017 valid_small coco-val"),
        ("test", "test testing test2017 test-clean t10k_test"),
        ("", "trains trainer valley values devices evaluations tests latest cat 0 unlabeled extra contest"),
    ],
)
def test_names_of_splits(role: str, names: str) -> None:
    assert {name: role_of(name) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_splits_are_chosen_by_name() -> None:
    assert choose_splits({"test": 1, "train": 2, "validation": 3}, "here") == {"train": 2, "validation": 3}
    assert choose_splits({"train": 2, "testing": 1, "extra": 0}, "here") == {"train": 2, "validation": 1}
    assert choose_splits({"everything": 5}, "here") == {"train": 5}
    assert choose_splits({"test": 5}, "here") == {"train": 5}
    with pytest.raises(ValueError, match="here has the splits a, b, expected one named train"):
        choose_splits({"b": 1, "a": 2}, "here")


@pytest.mark.parametrize("names", ["train training test", "train val dev", "train test testing"])
def test_two_splits_of_one_kind_are_refused(names: str) -> None:
    with pytest.raises(ValueError, match=r"here: .* are all named as the .* split: rename all but one"):
        choose_splits(dict.fromkeys(names.split()), "here")


def test_long_lists_are_cut() -> None:
    assert listed(["b", "a"]) == "a, b"
    assert listed("hgfedcba", most=3) == "a, b, c and 5 more"
