from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from stage1_vqvae.data.dataset import ImageSplit, LabelledImages, hold_out


class ArrayReader:
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[rows]


def labelled(count: int = 10) -> LabelledImages:
    pixels = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2, 1)
    digests = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    return LabelledImages(ArrayReader(pixels), np.arange(count, dtype=np.int64) % 3, digests)


def same(batch: torch.Tensor) -> torch.Tensor:
    return batch


def test_a_batch_holds_the_images_of_its_draws() -> None:
    rows = np.array([7, 2, 5])
    split = ImageSplit(labelled(), rows, {})
    batch = split.__getitems__([0, 2, 4, 3 * 10**12 + 1])  # the last two are indices 1 of later epochs
    assert len(split) == 3
    assert batch["images"][:, 0, 0, 0].tolist() == [28, 20, 8, 8]
    assert batch["labels"].tolist() == [7 % 3, 5 % 3, 2 % 3, 2 % 3]
    assert batch["draws"].tolist() == [0, 2, 4, 3 * 10**12 + 1]
    assert batch["images"].dtype == torch.uint8
    assert batch["labels"].dtype == batch["draws"].dtype == torch.int64


def test_it_works_in_a_data_loader() -> None:
    split = ImageSplit(labelled(), np.arange(10), {})
    loader = DataLoader(split, batch_size=4, collate_fn=same)
    assert [len(batch["images"]) for batch in loader] == [4, 4, 2]  # type: ignore[call-overload]


def test_equal_descriptions_mean_equal_images() -> None:
    images = labelled()
    base = ImageSplit(images, np.arange(5), {"source": "here"}).description
    assert base["source"] == "here"
    assert base["count"] == 5
    assert base == ImageSplit(images, np.arange(5), {"source": "here"}).description
    relabelled = LabelledImages(images.reader, images.labels + 1, images.digests)
    repainted = LabelledImages(images.reader, images.labels, images.digests + np.uint8(1))
    others = [
        ImageSplit(images, np.arange(1, 6), {"source": "here"}),
        ImageSplit(images, np.arange(5)[::-1].copy(), {"source": "here"}),
        ImageSplit(relabelled, np.arange(5), {"source": "here"}),
        ImageSplit(repainted, np.arange(5), {"source": "here"}),
    ]
    digests = {other.description["digest"] for other in others} | {base["digest"]}
    assert len(digests) == len(others) + 1


@given(st.lists(st.integers(-1, 4), min_size=2, max_size=200), st.floats(0.01, 0.99))
def test_hold_out_takes_the_fraction_evenly(labels: list[int], fraction: float) -> None:
    held = hold_out(np.array(labels), fraction)
    assert held.sum() == min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    share = held.sum() / len(labels)
    for label, count in Counter(labels).items():
        assert abs(held[np.array(labels) == label].sum() - share * count) <= 2


def test_hold_out_is_scattered_and_stays_the_same() -> None:
    held = np.flatnonzero(hold_out(np.full(1000, -1), 0.1))
    assert held[:5].tolist() == np.flatnonzero(hold_out(np.full(1000, -1), 0.1))[:5].tolist()
    counts = np.histogram(held, bins=10, range=(0, 1000))[0]
    assert counts.min() >= 3
    assert np.diff(held).std() > 3


@pytest.mark.parametrize("count", [2, 3])
def test_tiny_sets_keep_something_on_both_sides(count: int) -> None:
    for fraction in (0.001, 0.999):
        assert 0 < hold_out(np.zeros(count, dtype=np.int64), fraction).sum() < count
