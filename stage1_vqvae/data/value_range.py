"""One range of values for a data set of images of more than 8 bits."""

from __future__ import annotations

import math
from collections.abc import Iterable


def range_of(extremes: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Chooses the values that become 0 and 255.

    Whole numbers from 0 on are taken for levels of so many bits: the range is 0 to the least 2ᵏ - 1 that holds all of
    them, such as [0, 4095]. Other numbers from 0 on are taken for parts of 1, or for levels of 8 bits, where their
    largest is in the upper half of that. In all other cases the range is from the least value, or 0 if that is less,
    to the largest.

    Args:
        extremes: The least and the largest value of each image.

    Returns:
        The darkest and the brightest value.
    """
    least, largest = _both(extremes)
    if least < 0:
        return least, max(largest, 0.0)
    if largest == 0:
        return 0.0, 1.0
    if float(largest).is_integer() and float(least).is_integer() and largest > 1:
        return 0.0, float(2 ** math.ceil(math.log2(largest + 1)) - 1)
    for convention in (1.0, 255.0):
        if convention / 2 < largest <= convention:
            return 0.0, convention
    return 0.0, largest


def describe_range(extremes: Iterable[tuple[float, float]], value_range: tuple[float, float]) -> str:
    """Says what values were found and what becomes of them, as the end of a sentence about the images."""
    least, largest = _both(extremes)
    low, high = value_range
    levels = min(256, round(255 * (min(largest, high) - max(least, low)) / (high - low)) + 1)
    said = f"values from {least:g} to {largest:g}, of which {low:g} becomes black and {high:g} white"
    if largest - least > 255:
        said += ", 256 levels in all"
    if levels < 128:
        said += f"; they use {max(levels, 1)} of 256 levels"
    return said


def _both(extremes: Iterable[tuple[float, float]]) -> tuple[float, float]:
    found = list(extremes)
    return min(low for low, _ in found), max(high for _, high in found)
