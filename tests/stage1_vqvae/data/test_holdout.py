from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.data.holdout import hold_out_by_position


@given(st.lists(st.integers(-1, 4), min_size=2, max_size=200), st.floats(0.01, 0.99))
def test_hold_out_takes_the_fraction_evenly(labels: list[int], fraction: float) -> None:
    held = hold_out_by_position(np.array(labels), fraction)
    assert held.sum() == min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    share = held.sum() / len(labels)
    for label, count in Counter(labels).items():
        assert abs(held[np.array(labels) == label].sum() - share * count) <= 2


def test_hold_out_is_scattered_and_stays_the_same() -> None:
    held = np.flatnonzero(hold_out_by_position(np.full(1000, -1), 0.1))
    assert held[:5].tolist() == np.flatnonzero(hold_out_by_position(np.full(1000, -1), 0.1))[:5].tolist()
    counts = np.histogram(held, bins=10, range=(0, 1000))[0]
    assert counts.min() >= 3
    assert np.diff(held).std() > 3


@pytest.mark.parametrize("count", [2, 3])
def test_tiny_sets_keep_something_on_both_sides(count: int) -> None:
    for fraction in (0.001, 0.999):
        assert 0 < hold_out_by_position(np.zeros(count, dtype=np.int64), fraction).sum() < count
