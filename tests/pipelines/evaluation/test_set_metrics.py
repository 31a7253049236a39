import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pipelines.evaluation.set_metrics import NEIGHBOURS, PrecisionRecall, frechet_distance


def within_by_hand(points, others):
    count = 0
    for point in points:
        for other in others:
            radius = sorted(np.linalg.norm(others - other, axis=1))[NEIGHBOURS]
            if np.linalg.norm(point - other) <= radius:
                count += 1
                break
    return count / len(points)


def test_precision_and_recall_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(40, 3)), 0.7 * rng.normal(size=(30, 3)) + 1
    metric = PrecisionRecall(3)
    for part in np.array_split(real, 3):
        metric.update(torch.tensor(part), real=True)
    metric.update(torch.tensor(made), real=False)
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values == pytest.approx({"precision": within_by_hand(made, real), "recall": within_by_hand(real, made)})
    assert 0 < values["recall"] < values["precision"] < 1


def test_sets_apart_and_equal_sets():
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for shift, expected in ((0.0, 1.0), (100.0, 0.0)):
        metric = PrecisionRecall(2)
        metric.update(points, real=True)
        metric.update(points + shift, real=False)
        assert {float(value) for value in metric.compute().values()} == {expected}


def test_frechet_distance_in_numpy():
    rng = np.random.default_rng(1)
    real, made = rng.normal(size=(60, 4)), 2 * rng.normal(size=(50, 4)) + 1
    metric = frechet_distance(4)
    metric.update(torch.tensor(real), real=True)
    metric.update(torch.tensor(made), real=False)
    gap = ((real.mean(0) - made.mean(0)) ** 2).sum()
    a, b = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    expected = gap + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
