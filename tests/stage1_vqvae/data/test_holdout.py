from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stage1_vqvae.data.dataset import ImageSet, LabelledImages
from stage1_vqvae.data.holdout import divide, hold_out_by_content, hold_out_by_position, shared_digests


def digests(contents: list[int]) -> NDArray[np.uint8]:
    hashes = [hashlib.sha256(str(content).encode()).digest() for content in contents]
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32)


def rank(content: int) -> float:
    """The number in [0, 1) that the first digits of a digest write."""
    return int(hashlib.sha256(str(content).encode()).hexdigest()[:16], 16) / 2**64


def held(images: list[tuple[int, int]], fraction: float) -> list[bool]:
    contents, labels = zip(*images, strict=True)
    return hold_out_by_content(np.array(labels), digests(list(contents)), fraction).tolist()


Images = st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 3)), min_size=2, max_size=60)


def test_an_image_is_held_back_by_its_digest() -> None:
    images = [(content, content % 3) for content in range(300)]
    assert held(images, 0.2) == [rank(content) < 0.2 for content, _ in images]
    assert 30 <= sum(held(images, 0.2)) <= 90


@given(Images, st.integers(0, 60), st.integers(-1, 3), st.floats(0.01, 0.99))
def test_one_more_image_moves_no_other(
    images: list[tuple[int, int]], content: int, label: int, fraction: float
) -> None:
    assume(len({content for content, _ in images}) > 1)
    trained = {label for one, label in images if rank(one) >= fraction}
    # All others are forced to a side: the last image of a class, or the only one that is held back.
    free = {one for one, _ in images} - {one for one, label in images if label not in trained} - {content}
    assume(any(rank(one) < fraction for one in free))
    for chosen in (held(images, fraction), held([*images, (content, label)], fraction)):
        for (one, _), side in zip(images, chosen, strict=False):
            assert one not in free or side == (rank(one) < fraction)


@given(Images, st.floats(0.01, 0.99))
def test_copies_stand_together_and_neither_side_is_empty(images: list[tuple[int, int]], fraction: float) -> None:
    assume(len({content for content, _ in images}) > 1)
    chosen = held(images, fraction)
    sides: dict[int, set[bool]] = {}
    for (content, _), side in zip(images, chosen, strict=True):
        sides.setdefault(content, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert any(chosen)
    assert not all(chosen)


def test_every_class_keeps_an_image_to_train_on() -> None:
    images = [(content, content) for content in range(200)]  # one image of each class
    assert sum(held(images, 0.5)) == 1  # one is held back at least
    pairs = [(content, content // 2) for content in range(200)]
    trained = {label for (_, label), side in zip(pairs, held(pairs, 0.5), strict=True) if not side}
    assert trained == set(range(100))
    larger = [max((rank(c), c) for c in (2 * label, 2 * label + 1)) for label in range(100)]
    assert all(not side for (c, _), side in zip(pairs, held(pairs, 0.9), strict=True) if any(c == b for _, b in larger))


@pytest.mark.parametrize("rule", [hold_out_by_content, hold_out_by_position])
def test_two_images_are_needed(rule: Any) -> None:
    arguments = (digests([1]),) if rule is hold_out_by_content else ()
    with pytest.raises(ValueError, match="at least two"):
        rule(np.zeros(1, dtype=np.int64), *arguments, 0.1)
    with pytest.raises(ValueError, match="at least two different images"):
        held([(1, 0), (1, 1)], 0.5)


class Nothing:
    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        raise NotImplementedError


def images_of(contents: list[int]) -> LabelledImages:
    return LabelledImages(Nothing(), np.zeros(len(contents), dtype=np.int64), digests(contents))


def test_copies_of_training_images_are_not_validated_on() -> None:
    images = ImageSet({"train": images_of([1, 2, 3]), "validation": images_of([3, 4, 1, 5])}, ("a",))
    divided = divide(images, {"source": "here"}, 0.1, "content")
    assert (len(divided.train), len(divided.validation)) == (3, 2)
    assert (
        divided.validation.description["digest"]
        == divide(
            ImageSet({"train": images_of([9]), "validation": images_of([4, 5])}, ("a",)), {}, 0.1, "content"
        ).validation.description["digest"]
    )
    assert divided.notes == ("2 images of the validation split are copies of training images and are left out",)
    assert len(divide(images, {"source": "here"}, 0.1, "position").validation) == 4  # as in 0.1.0
    with pytest.raises(ValueError, match="here: all images of the validation split are in the training split too"):
        divide(
            ImageSet({"train": images_of([1, 2]), "validation": images_of([2])}, ("a",)),
            {"source": "here"},
            0.1,
            "content",
        )


@given(st.lists(st.integers(-1, 4), min_size=2, max_size=200), st.floats(0.01, 0.99))
def test_by_position_the_fraction_is_taken_evenly(labels: list[int], fraction: float) -> None:
    held = hold_out_by_position(np.array(labels), fraction)
    assert held.sum() == min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    share = held.sum() / len(labels)
    for label, count in Counter(labels).items():
        assert abs(held[np.array(labels) == label].sum() - share * count) <= 2


def test_by_position_it_is_scattered_and_stays_the_same() -> None:
    held = np.flatnonzero(hold_out_by_position(np.full(1000, -1), 0.1))
    assert held[:5].tolist() == np.flatnonzero(hold_out_by_position(np.full(1000, -1), 0.1))[:5].tolist()
    counts = np.histogram(held, bins=10, range=(0, 1000))[0]
    assert counts.min() >= 3
    assert np.diff(held).std() > 3


@pytest.mark.parametrize("count", [2, 3])
def test_by_position_tiny_sets_keep_something_on_both_sides(count: int) -> None:
    for fraction in (0.001, 0.999):
        assert 0 < hold_out_by_position(np.zeros(count, dtype=np.int64), fraction).sum() < count


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30))
def test_frames_of_a_file_and_copies_share_the_least_of_their_digests(images: list[tuple[int, int]]) -> None:
    contents, files = (list(values) for values in zip(*images, strict=True))
    own = digests(contents)
    expected = [digest.tobytes() for digest in own]
    for _ in images:  # spread over what is linked until nothing changes
        for one, (content, file) in enumerate(images):
            linked = [other for other, (c, f) in enumerate(images) if c == content or f == file]
            expected[one] = min(expected[other] for other in linked)
    assert [digest.tobytes() for digest in shared_digests(own, np.array(files))] == expected
