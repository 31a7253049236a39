"""The door for numbers."""

from __future__ import annotations

import math
import operator
from typing import Any


def whole_number(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """A whole number, of Python, numpy or torch.

    Args:
        value: What was given; a tensor or array of one integer will do.
        name: Of the argument, for the message.
        least: The smallest that is allowed; None for any.
        most: The largest that is allowed; None for any.

    Raises:
        ValueError: If it is a boolean, a fraction, something else or out of range.
    """
    found = _integer(value)
    if found is None or (least is not None and found < least) or (most is not None and found > most):
        whole = "a whole number" if found is None else ""
        raise ValueError(f"{name} is {', '.join(filter(None, (whole, _range(least, most))))}, got {shown(value)}")
    return found


def real_number(value: Any, name: str) -> float:
    """A finite number, of Python, numpy or torch.

    Raises:
        ValueError: If it is a boolean, something else, infinite or NaN.
    """
    try:
        found = float("nan") if _is_boolean(value) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = float("nan")
    if not math.isfinite(found):
        raise ValueError(f"{name} is a number, got {shown(value)}")
    return found


def image_size_of(value: Any) -> tuple[int, int]:
    """Height and width of images in pixels.

    Raises:
        ValueError: If it is no pair of whole numbers of at least 1.
    """
    try:
        height, width = value
    except (TypeError, ValueError):
        raise ValueError(f"image_size is a pair of pixels, (height, width), got {shown(value)}") from None
    return whole_number(height, "image_size[0]", 1), whole_number(width, "image_size[1]", 1)


def shown(value: Any) -> str:
    """A value as messages show it: short, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{type(value).__name__} {text[:60]}…"


def _integer(value: Any) -> int | None:
    if _is_boolean(value):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _range(least: int | None, most: int | None) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"at least {least}"
    shown_most = "2^64 - 1" if most == 2**64 - 1 else str(most)
    return f"from {least} to {shown_most}" if least is not None else f"at most {shown_most}"
