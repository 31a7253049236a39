from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.data.value_range import describe_range, range_of


@pytest.mark.parametrize(
    ("extremes", "expected"),
    [
        ([(3, 4000), (0, 17)], (0, 4095)),  # 12 bits in 16
        ([(0, 4096)], (0, 8191)),
        ([(9, 65535)], (0, 65535)),
        ([(0, 255)], (0, 255)),  # 8 bits in 32
        ([(0, 1)], (0, 1)),  # a mask
        ([(0, 0)], (0, 1)),  # nothing but black
        ([(0.0, 0.3), (0.1, 0.9)], (0, 1)),
        ([(0.5, 200.5)], (0, 255)),
        ([(0.0, 0.25)], (0, 0.25)),
        ([(0.5, 1000.5)], (0, 1000.5)),
        ([(-1024, 3071)], (-1024, 3071)),  # computed tomography
        ([(-2, -1)], (-2, 0)),
    ],
)
def test_one_range_for_all_images(extremes: list[tuple[float, float]], expected: tuple[float, float]) -> None:
    assert range_of(extremes) == expected


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=5))
def test_all_values_lie_within(pairs: list[tuple[float, float]]) -> None:
    extremes = [(min(pair), max(pair)) for pair in pairs]
    low, high = range_of(extremes)
    assert low <= min(0, *(least for least, _ in extremes))
    assert high >= max(largest for _, largest in extremes)
    assert low < high


def test_what_becomes_of_the_values_is_said() -> None:
    said = describe_range([(3, 4000)], (0.0, 4095.0))
    assert said == "values from 3 to 4000, of which 0 becomes black and 4095 white, 256 levels in all"
    assert describe_range([(0, 100)], (0.0, 4095.0)).endswith("; they use 7 of 256 levels")
