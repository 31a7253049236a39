"""What differs between the versions of Hydra and OmegaConf that the project runs with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from omegaconf import OmegaConf

VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if version("hydra-core").startswith("1.3.") else {}
"""Whose defaults are taken: 1.3's. Later versions have no others, and warn of the argument."""


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Let ``${name:...}`` be what a function returns."""
    of_2_3 = version("omegaconf").startswith("2.3.")  # whose register_resolver is another function
    register: Any = OmegaConf.register_new_resolver if of_2_3 else OmegaConf.register_resolver
    register(name, resolver, replace=True)
