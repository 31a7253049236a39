"""A command's settings: its whole configuration, resolved to plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

Settings = dict[str, Any]
"""A command's whole configuration, resolved to plain data."""


def stage_seed(settings: Settings, stage: str) -> int:
    """The seed of a stage, ``stage1`` or ``stage2``: its own, or that of the whole run where it has none."""
    seed: int = settings[stage].get("seed", settings["seed"])
    return seed


def plain_settings(config: DictConfig) -> Settings:
    """The settings of a configuration that Hydra composed, with ``output`` as an absolute path.

    Raises:
        ValueError: If a value is missing.
        OmegaConfBaseException: If one is of a wrong type, or refers to nothing.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))}: a value is needed, e.g. {min(missing)}=...")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = {str(key): value for key, value in plain.items()}
    if settings.get("output") is not None:
        settings["output"] = str(Path(settings["output"]).expanduser().absolute())
    return settings
