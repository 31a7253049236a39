"""How much each key of a sweep matters for its objective: a plain analysis of variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.sweep.outcomes import Sweep

MOST = 5
"""Numbers of more different values than this are put into so many bins of about as many jobs each."""

FEWEST = 4
"""Jobs without which nothing is said."""


def importance(sweep: Sweep) -> dict[str, float]:
    """Share of the objective's variance between jobs that each varied key explains by itself, the largest first.

    It is eta squared of a one-way analysis of variance: the sum of squares between the means of a key's values over
    the total one. In a grid of all combinations the shares and what is due to interactions and chance sum to 1.

    Returns:
        Shares in [0, 1] by key; empty where fewer than ``FEWEST`` jobs finished, or they are all alike.
    """
    rows = [row for row in sweep.rows if row.ranked(sweep.objective) is not None]
    values = np.array([row.metrics[sweep.objective] for row in rows])
    if len(rows) < FEWEST or np.ptp(values) == 0:
        return {}
    shares = {key: eta_squared(levels([row.values.get(key) for row in rows]), values) for key in sweep.varied}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def eta_squared(labels: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """The share of the variance of ``values [n]`` that lies between their groups of ``labels [n]``."""
    deviations = values - values.mean()
    sizes = np.bincount(labels)
    sums = np.bincount(labels, deviations)
    between = (sums[sizes > 0] ** 2 / sizes[sizes > 0]).sum()
    return float(between / (deviations**2).sum())


def levels(texts: list[str | None]) -> NDArray[np.int64]:
    """Number of the group of each of n values, ``[n]``: equal texts, or bins of numbers of many different values."""
    _, labels = np.unique([str(text) for text in texts], return_inverse=True)
    if labels.max() < MOST:
        return labels
    try:
        numbers = np.array([float(text or "nan") for text in texts])
    except ValueError:
        return labels
    edges = np.quantile(numbers, np.linspace(0, 1, MOST + 1)[1:-1])
    return np.searchsorted(edges, numbers, side="left")
