import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pipelines.evaluation.distances import estimate, frechet, kernel_distance


def sets(made=30, real=25, dim=4, shift=0.5):
    rng = np.random.default_rng(0)
    return 1.5 * rng.normal(size=(made, dim)) + shift, rng.normal(size=(real, dim))


def frechet_in_numpy(one, other):
    gap = ((one.mean(0) - other.mean(0)) ** 2).sum()
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    return gap + np.trace(a + b - 2 * sqrtm(a @ b).real)


def kernel_by_loops(one, other, copies_of_one=None):
    """The mean over all pairs, without pairs of an image and itself."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    def mean_within(points, names):
        pairs = [(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if names[i] != names[j]]
        return np.mean([kernel(x, y) for x, y in pairs])

    names = range(len(one)) if copies_of_one is None else copies_of_one
    between = np.mean([kernel(x, y) for x in one for y in other])
    return mean_within(one, names) + mean_within(other, range(len(other))) - 2 * between


def called(distance, one, other, weights=None):
    weights = np.ones(len(one)) if weights is None else weights
    return distance(*map(torch.tensor, (one, other, weights, np.ones(len(other))))).item()


@pytest.mark.parametrize(("made", "dim"), [(30, 4), (5, 12), (25, 25)])  # more images than dimensions, and fewer
def test_frechet_and_kernel_distance_are_numpys(made, dim):
    one, other = sets(made, 25, dim)
    assert called(frechet, one, other) == pytest.approx(frechet_in_numpy(one, other), rel=1e-5)
    assert called(kernel_distance, one, other) == pytest.approx(kernel_by_loops(one, other), rel=1e-9)


def test_a_weight_is_a_number_of_copies_and_no_image_is_paired_with_its_own():
    one, other = sets()
    weights = np.random.default_rng(1).integers(0, 3, len(one)).astype(float)
    names = np.repeat(np.arange(len(one)), weights.astype(int))
    repeated = one[names]
    assert called(frechet, one, other, weights) == pytest.approx(frechet_in_numpy(repeated, other), rel=1e-6)
    expected = kernel_by_loops(repeated, other, names)
    assert called(kernel_distance, one, other, weights) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_are_no_distance_apart_and_the_kernels_has_no_bias():
    one, _ = sets()
    assert called(frechet, one, one) == pytest.approx(0, abs=1e-6)
    rng = np.random.default_rng(2)
    many = [called(kernel_distance, rng.normal(size=(12, 3)), rng.normal(size=(12, 3))) for _ in range(400)]
    assert abs(np.mean(many)) < 3 * np.std(many) / 20


def test_an_interval_lies_about_its_value_and_is_as_wide_as_new_sets_differ():
    rng = np.random.default_rng(3)

    def fresh():
        return rng.normal(loc=(1.0, 0.0), size=(100, 2)), rng.normal(size=(100, 2))

    found = estimate(frechet, *map(torch.tensor, fresh()))
    assert found.low < found.value < found.high
    assert estimate(frechet, *map(torch.tensor, fresh()), seed=1) != found
    values = [called(frechet, *fresh()) for _ in range(300)]
    spread = np.quantile(values, 0.95) - np.quantile(values, 0.05)
    assert found.high - found.low == pytest.approx(spread, rel=0.5)
    assert set(found.named("x")) == {"x", "x_low", "x_high"}
