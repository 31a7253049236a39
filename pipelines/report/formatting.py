"""Numbers as a reader of a table or a page wants them."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Write a number with four significant digits, and with all digits before the decimal point."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float) -> str:
    """Write a share of 1 in percent, with three significant digits."""
    return f"{100 * value:.3g} %"


def count(value: int) -> str:
    """Write a large count with a letter for its thousands, millions or billions, such as ``1.23 M``."""
    for size, letter in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return str(value)


def plus_minus(mean: float, deviation: float) -> str:
    """Write a mean and a standard deviation, both to the second significant digit of the deviation."""
    if not (math.isfinite(mean) and math.isfinite(deviation)) or deviation <= 0:
        return f"{number(mean)} ± {number(deviation)}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}"
