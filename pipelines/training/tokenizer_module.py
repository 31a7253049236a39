"""The LightningModule that trains a tokenizer, as the settings of a stage describe it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from stage1_vqvae.lightning_module import TokenizerTraining

ALONE = {"_target_": "stage1_vqvae.lightning_module.TokenizerTraining"}
"""What trains a tokenizer where ``stage1.training`` is null."""


def tokenizer_module(stage: Settings, trust: Sequence[str], **known: Any) -> TokenizerTraining:
    """What ``stage1.training`` describes, or a training without a discriminator.

    Args:
        stage: The settings of stage one.
        trust: Further packages whose classes may be named.
        known: Arguments of the module that no setting describes.

    Raises:
        ValueError: If a setting is wrong.
    """
    made: TokenizerTraining = build(stage.get("training") or ALONE, "stage1.training", trust, **known)
    return made
