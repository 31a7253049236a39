"""Callbacks of a user's own, for Lightning's trainer of either stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback

from pipelines.config.instantiate import build, find


def callbacks(settings: Mapping[str, Any], stage: str) -> list[Callback]:
    """What ``callbacks.stage1`` or ``callbacks.stage2`` describes.

    Raises:
        ValueError: If something there is no callback of Lightning.
    """
    found = build(_asked(settings, stage), f"callbacks.{stage}", settings["trust"])
    for number, callback in enumerate(found):
        if not isinstance(callback, Callback):
            kind = type(callback).__name__
            raise ValueError(f"callbacks.{stage}[{number}]: a pytorch_lightning.Callback expected, got {kind}")
    return list(found)


def callback_settings(settings: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The callbacks that a model depends on, as ``{"callbacks": [...]}``; empty if it depends on none.

    A callback whose class has ``only_logs = True`` changes nothing in the model. It is left out, so it can be added to
    and dropped from a run that has started.
    """
    asked = [node for node in _asked(settings, stage) if not _only_logs(node, settings["trust"])]
    return {"callbacks": asked} if asked else {}


def _only_logs(node: Mapping[str, Any], trust: Sequence[str]) -> bool:
    try:
        return getattr(find(str(node["_target_"]), "", trust), "only_logs", False) is True
    except (KeyError, ValueError):  # reported where the callbacks are built
        return False


def _asked(settings: Mapping[str, Any], stage: str) -> list[Any]:
    return settings.get("callbacks", {}).get(stage, [])
