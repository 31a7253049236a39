from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.hashing import uniform_per_draw


def splitmix64(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**62))
def test_numbers_are_splitmix64_of_seed_draw_and_position(seed: int, draw: int) -> None:
    gamma = 0x9E3779B97F4A7C15
    key = splitmix64((seed + gamma) % 2**64)
    counter = splitmix64(key ^ splitmix64((draw + gamma) % 2**64))
    expected = [(splitmix64((counter + i * gamma) % 2**64) >> 40) / 2**24 for i in (1, 2, 3)]
    assert uniform_per_draw(torch.tensor([draw]), seed, 3)[0].tolist() == expected


def test_numbers_are_uniform_and_uncorrelated() -> None:
    numbers = uniform_per_draw(torch.arange(20_000), seed=0, count=5).numpy()
    assert 0 <= numbers.min() < numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(numbers.var(0), 1 / 12, atol=0.003)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(5), atol=0.03)
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.03
