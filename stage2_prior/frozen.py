"""What incremental forms prepare of a module's weights, made once while the weights do not change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Made = TypeVar("Made")


class _Prepared:
    """What was prepared of one module, by key."""

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Any] = {}
        self.lock = Lock()


_prepared: WeakKeyDictionary[nn.Module, _Prepared] = WeakKeyDictionary()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Promise that the weights of a module do not change inside, on any thread; see :func:`prepared`."""
    if module in _prepared:
        yield
        return
    _prepared[module] = _Prepared()
    try:
        yield
    finally:
        _prepared.pop(module, None)


def prepared(module: nn.Module, key: Hashable, make: Callable[[], Made]) -> Made:
    """``make()``, and inside :func:`frozen` of the module the same object for every call with the same key.

    Args:
        module: Whose weights are prepared.
        key: What tells apart the things that are prepared of one module.
        make: Prepares it.
    """
    shared = _prepared.get(module)
    if shared is None:
        return make()
    with shared.lock:
        if key not in shared.by_key:
            shared.by_key[key] = make()
        made: Made = shared.by_key[key]
        return made
