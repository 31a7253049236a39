"""The door for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.inputs.numbers import shown, whole_number
from stage1_vqvae.data.labels import is_whole_number
from stage1_vqvae.data.splits import listed
from stage2_prior.prior import NO_LABEL

Label = int | str | Sequence[int | str] | NDArray[np.integer[Any]] | Tensor | None
"""A class by number or name, several of them, or None."""


def class_numbers(label: Any, class_names: Sequence[str]) -> Tensor:
    """Numbers of the classes that a label names, int64 ``[k]``, k at least 1.

    A text is a class's name, a number its number, unless a class is called by that number: of classes 1, 2, 3 and
    other the label 1 is the class called 1. Where all are called by whole numbers, a number is a name alone. Tensors
    and arrays hold class numbers as :class:`~pipelines.generator.Samples` does, never names. -1 stands for the null
    class: no class at all.

    Args:
        label: A number, a name, a sequence of these, or a tensor or array of numbers, ``[]`` or ``[k]``.
        class_names: By class number; empty for a prior without classes, which knows the null class alone.

    Raises:
        ValueError: If it is none of these, or there is no such class.
    """
    if isinstance(label, Tensor | np.ndarray):
        return _numbers_of(label, class_names)
    several = label if isinstance(label, Sequence) and not isinstance(label, str | bytes) else [label]
    if len(several) == 0:
        raise ValueError("label=[]: one class at least expected, or null for all in turn")
    return torch.tensor([_class_number(one, class_names) for one in several])


def labels_of(label: Any, class_names: Sequence[str], count: int) -> Tensor:
    """One class number for each of ``count`` rows, int64 ``[count]``; the null class, -1, for None.

    Args:
        label: As for :func:`class_numbers`; one for all rows or one for each.
        class_names: By class number.
        count: Number of rows.

    Raises:
        ValueError: If it names no class, or there is neither one nor one for each row.
    """
    if label is None:
        return torch.full((count,), NO_LABEL)
    numbers = class_numbers(label, class_names)
    if len(numbers) not in (1, count):
        raise ValueError(f"labels: one, or one for each of {count}, expected, got {len(numbers)}")
    return numbers.expand(count).clone()


def trained_classes(class_names: Sequence[str], class_counts: Sequence[int]) -> list[int]:
    """Numbers of the classes that a prior has learned.

    Args:
        class_names: By class number.
        class_counts: Training images of each class; empty where that is not known, as of priors of version 0.1.0.
    """
    return [number for number in range(len(class_names)) if not class_counts or class_counts[number]]


def as_trained(n: int, class_counts: Sequence[int]) -> NDArray[np.int64]:
    """Classes of ``n`` images with the shares that they have among the training images, int64 ``[n]``.

    Of every number of first images, each class has its share to within one image or so: the next image is of the class
    that is furthest behind.

    Args:
        n: Number of images.
        class_counts: Training images of each class.
    """
    shares = np.array(class_counts) / np.sum(class_counts)
    drawn, found = np.zeros(len(shares)), np.empty(n, dtype=np.int64)
    for image in range(n):
        found[image] = np.argmax(shares * (image + 1) - drawn)
        drawn[found[image]] += 1
    return found


def check_trained(numbers: Tensor, class_names: Sequence[str], class_counts: Sequence[int]) -> None:
    """Raise ValueError if one of some class numbers is of a class without training images."""
    trained = trained_classes(class_names, class_counts)
    for number in numbers.unique().tolist():
        if number != NO_LABEL and number not in trained:
            name, known = class_names[number], listed(class_names[one] for one in trained)
            raise ValueError(f"label={name}: the class {name} has no training images; classes that have some: {known}")


def _class_number(label: Any, class_names: Sequence[str]) -> int:
    names = list(class_names)
    if isinstance(label, str):
        if label in names:
            return names.index(label)
        raise _no_such(label, class_names)
    try:
        number = whole_number(label, "label")
    except ValueError:
        raise _no_such(label, class_names) from None
    if str(number) in names:
        return names.index(str(number))
    if number == NO_LABEL:
        return NO_LABEL
    if not called_by_numbers(class_names) and 0 <= number < len(names):
        return number
    raise _no_such(label, class_names)


def called_by_numbers(class_names: Sequence[str]) -> bool:
    """Whether every class is called by a whole number."""
    return bool(class_names) and all(map(is_whole_number, class_names))


def _numbers_of(label: Tensor | NDArray[Any], class_names: Sequence[str]) -> Tensor:
    numbers = torch.as_tensor(label)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if not whole or numbers.ndim > 1 or numbers.numel() == 0:
        raise ValueError(f"labels: integers of shape [] or [n] expected, got {numbers.dtype} {list(numbers.shape)}")
    numbers = numbers.reshape(-1).to(device="cpu", dtype=torch.int64)
    for number in numbers.unique().tolist():
        if number != NO_LABEL and not 0 <= number < len(class_names):
            raise _no_such(number, class_names)
    return numbers


def _no_such(label: Any, class_names: Sequence[str]) -> ValueError:
    given = label if isinstance(label, str) else shown(label)
    if not class_names:
        return ValueError(f"label={given}: this prior was trained without labels, leave label out")
    last = len(class_names) - 1
    if list(class_names) == [str(number) for number in range(last + 1)]:
        return ValueError(f"label={given}: classes are 0 to {last}")
    listed = ", ".join(class_names[:20]) + (", …" if len(class_names) > 20 else "")
    if called_by_numbers(class_names):
        return ValueError(f"label={given}: classes are {listed}")
    return ValueError(f"label={given}: classes are 0 to {last} or by name {listed}")
