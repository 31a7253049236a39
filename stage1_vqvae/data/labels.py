"""Classes get numbers: names in an order that people expect, labels by their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Labels:
    """Labels of splits.

    Attributes:
        by_split: int64 ``[N]`` for each split: the class, or -1 where there is none.
        class_names: Names of the classes 0, 1, ...
        notes: What a person should know of them, a sentence each.
    """

    by_split: dict[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts class names: whole numbers by their value where all are, else by the alphabet."""
    found = sorted(set(names))
    return sorted(found, key=int) if found and all(map(is_whole_number, found)) else found


def is_whole_number(name: str) -> bool:
    """Whether a class is called by a whole number, such as ``7``, ``012`` or ``-3``."""
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def number_labels(
    values: Mapping[str, Sequence[Any]], name: str, declared: Sequence[str] | None = None, fix: str = ""
) -> Labels:
    """Gives classes their numbers.

    Args:
        values: Labels of each split: integers or strings; None, -1 or an empty string for none.
        name: What messages call them.
        declared: Names of the labels 0, 1, ... where the data set says them. Otherwise classes are the values of all
            splits, in order.
        fix: What to do about labels that do not work, for messages.

    Raises:
        ValueError: If the labels are neither all integers nor all strings, or not among those that are declared.
    """
    if declared:
        names = tuple(declared)
        known: dict[Any, int] = {position: position for position in range(len(names))}
    else:
        found = [value for column in values.values() for value in column if value not in (None, -1, "")]
        kinds = {type(value) for value in found}
        if kinds not in (set(), {int}, {str}):
            raise ValueError(f"the {name} are neither all integers nor all strings: {fix}")
        ordered = in_order(found) if kinds == {str} else sorted(set(found))
        known = {value: position for position, value in enumerate(ordered)}
        names = tuple(map(str, ordered))
    unlabelled = {None: -1, -1: -1, "": -1}
    try:
        by_split = {
            split: np.array([(known | unlabelled)[value] for value in column], dtype=np.int64)
            for split, column in values.items()
        }
    except KeyError as error:
        raise ValueError(f"the {name}: {error} is not among the {len(names)} classes") from error
    return Labels(by_split, names, _captions(by_split["train"], name, fix))


def _captions(labels: NDArray[np.int64], name: str, fix: str) -> tuple[str, ...]:
    """A note where no two images share a label, as captions and file names never do."""
    found = labels[labels >= 0]
    if len(found) < 10 or len(np.unique(found)) < len(found):
        return ()
    return (f"the {name} are {len(found)} different ones for {len(found)} images, as captions are, not classes: {fix}",)
