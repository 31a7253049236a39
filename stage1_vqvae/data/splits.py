"""Which split of a data set a folder or a file belongs to, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sized
from typing import TypeVar

_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_WORD = "|".join(sorted(_ROLES, key=len, reverse=True))
_SPLIT = re.compile(rf"(?:(?P<first>{_WORD})(?:[\d_.-].*)?|.+[_-](?P<last>{_WORD}))", re.IGNORECASE)
_Split = TypeVar("_Split")


def role_of(name: str) -> str:
    """Returns the split that a name stands for: ``train``, ``validation`` or ``test``; empty where it names none.

    Names are train, training, validation, valid, val, dev, eval, evaluation, test and testing in upper or lower case,
    alone, before a digit, dot, dash or underscore (``train2017``, ``test-00000-of-00001``) or at the end after a dash
    or underscore (``digits_train``).
    """
    match = _SPLIT.fullmatch(name)
    return _ROLES[(match["first"] or match["last"]).lower()] if match else ""


def choose_splits(named: dict[str, _Split], where: str) -> dict[str, _Split]:
    """Returns ``train`` and, as ``validation``, the validation split or else the test split.

    Args:
        named: Splits by name. A single one of any name is the training split.
        where: What holds them, for messages.

    Raises:
        ValueError: If none of several is a training split, or two stand for the same.
    """
    if len(named) == 1:
        return {"train": next(iter(named.values()))}
    by_role: dict[str, list[str]] = {}
    for name in named:
        by_role.setdefault(role_of(name), []).append(name)
    if "train" not in by_role:
        raise ValueError(f"{where} has the splits {listed(named)}, expected one named train")
    held_back = "validation" if "validation" in by_role else "test"
    for role in ("train", held_back):
        if len(by_role.get(role, [])) > 1:
            raise ValueError(f"{where}: {listed(by_role[role])} are all named as the {role} split: rename all but one")
    chosen = {"train": by_role["train"][0]}
    if held_back in by_role:
        chosen["validation"] = by_role[held_back][0]
    return {split: named[name] for split, name in chosen.items()}


def not_used(named: Mapping[str, Sized], chosen: Mapping[str, Sized]) -> tuple[str, ...]:
    """Notes on the splits that `choose_splits` did not choose, a sentence each.

    Args:
        named: The images of all splits by name.
        chosen: The same objects, those that are used.
    """
    used = {id(split) for split in chosen.values()}
    left = {name: len(split) for name, split in sorted(named.items()) if id(split) not in used}
    return tuple(f"the split {name} ({count} images) is not used" for name, count in left.items())


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names in alphabetical order, as many as fit a line."""
    found = sorted(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
