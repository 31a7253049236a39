"""Callbacks of a user's own, for Lightning's trainer of either stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback

from pipelines.config.instantiate import build


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
    """What a model depends on of the callbacks: nothing where there are none."""
    asked = _asked(settings, stage)
    return {"callbacks": asked} if asked else {}


def _asked(settings: Mapping[str, Any], stage: str) -> list[Any]:
    return settings.get("callbacks", {}).get(stage, [])
