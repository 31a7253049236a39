"""What differs between the versions of Hydra and OmegaConf that the project runs with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from omegaconf import OmegaConf

IS_1_3 = version("hydra-core").startswith("1.3.")

VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if IS_1_3 else {}
"""Whose defaults are taken: 1.3's. Later versions have no others, and warn of the argument."""


def main_options() -> dict[str, Any]:
    """Arguments of ``hydra.main`` beside the configuration."""
    if IS_1_3:
        return VERSION_BASE
    import hydra.utils

    # Hydra itself makes launchers, sweepers and callbacks. Other classes are made by us, as far as `trust` allows.
    return {"execution_whitelist": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS}  # type: ignore[attr-defined]


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Let ``${name:...}`` be what a function returns."""
    of_2_3 = version("omegaconf").startswith("2.3.")  # whose register_resolver is another function
    register: Any = OmegaConf.register_new_resolver if of_2_3 else OmegaConf.register_resolver
    register(name, resolver, replace=True)
