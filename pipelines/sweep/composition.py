"""The configurations of a grid's jobs, composed once by the process that launches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig


@contextmanager
def composed_once() -> Iterator[None]:
    """Make Hydra keep the configuration of a job that it composes to find mistakes, until it runs the job.

    It composes each job of a grid before the first one starts, and again when the job does, which takes as long as the
    smallest trainings.
    """
    compose = ConfigLoaderImpl.load_sweep_config
    kept: dict[tuple[str, ...], DictConfig] = {}

    def once(self: ConfigLoaderImpl, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key in kept:
            return kept.pop(key)  # the job changes it
        kept[key] = compose(self, master_config, sweep_overrides)
        return kept[key]

    ConfigLoaderImpl.load_sweep_config = once  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_sweep_config = compose  # type: ignore[method-assign]
