"""A command's settings from Python: composed and checked as its command line would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipelines.cli.mistakes import explain
from pipelines.config.conf import CONF
from pipelines.config.hydra_versions import VERSION_BASE
from pipelines.config.overrides import key_of, override
from pipelines.config.schema import check_settings
from pipelines.config.settings import Settings, plain_settings

Given = Mapping[str, Any] | Sequence[str] | DictConfig | None
"""Settings of a caller: keys and values, overrides as on a command line, or what Hydra's ``compose`` returned."""


@dataclass(frozen=True)
class Asked:
    """Settings of a caller as overrides of Hydra.

    Attributes:
        words: The overrides.
        config: A whole configuration in their place; None without.
    """

    words: tuple[str, ...]
    config: DictConfig | None = None

    @classmethod
    def of(cls, settings: Given) -> Asked:
        """Settings in any of the forms that a caller may give.

        A key of a mapping is a group (``stage2``), a place (``stage1.trainer.max_steps``) or the name of a node whose
        value is a mapping of keys below it.

        Raises:
            ValueError: If they are none of these, or an override is none.
        """
        if isinstance(settings, DictConfig):
            return cls((), settings)
        if settings is None or isinstance(settings, Mapping):
            return cls(tuple(override(key, value) for key, value in flat(settings or {})))
        several = isinstance(settings, Sequence) and not isinstance(settings, str)
        if not (several and all(isinstance(word, str) for word in settings)):
            raise ValueError("settings: keys and values, a list of overrides, or a composed configuration expected")
        try:
            OverridesParser.create().parse_overrides(list(settings))
        except HydraException as error:
            raise ValueError(explain(error)) from error
        return cls(tuple(settings))

    def value(self, key: str) -> Any:
        """The value that a key is given; None if it is given none."""
        given = OverridesParser.create().parse_overrides(list(self.words))
        return next((each.value() for each in reversed(given) if each.key_or_group == key), None)

    @property
    def keys(self) -> frozenset[str]:
        """The keys and groups that are given something."""
        return frozenset(map(key_of, self.words))


def composed_settings(
    command: str, asked: Asked, fixed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a command, of which all is known to be right that can be known without importing what they name.

    Hydra's global state is left as it was found.

    Args:
        command: Its file in ``conf``.
        asked: Settings of the caller.
        fixed: Keys and values that they may not set too.
        defaults: Keys and values that they may replace.

    Raises:
        ValueError: If a key or value is wrong; the message is the command line's.
    """
    for key in fixed:
        if key in asked.keys:
            raise ValueError(f"{key}: an argument says it already, leave it out of settings")
    ours = {key: value for key, value in (defaults or {}).items() if key not in asked.keys} | dict(fixed)
    words = [*(override(key, value) for key, value in ours.items()), *asked.words]
    try:
        with hydra_set_aside(), initialize_config_dir(str(CONF), **VERSION_BASE):
            config = compose(command, overrides=words)
        if asked.config is not None:
            config = _placed(asked.config, config, {key.partition(".")[0] for key in fixed})
        settings = plain_settings(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error
    check_settings(settings, command)
    return {**settings, "overrides": None if asked.config is not None else words}


@contextmanager
def hydra_set_aside() -> Iterator[None]:
    """Without Hydra's global state, which a command has, and a caller that is an app of Hydra's; it comes back."""
    found = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = found


def settings_from(command: str, words: Sequence[str]) -> Settings:
    """Settings of a command from the words of its command line.

    Raises:
        ValueError: If a key or value is wrong; the message is the command line's.
    """
    return composed_settings(command, Asked(tuple(words)), {})


def _placed(config: DictConfig, ours: DictConfig, keys: set[str]) -> DictConfig:
    """A caller's configuration with our values of some of its keys."""
    found = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    with open_dict(found):
        for key in keys & set(map(str, ours)):
            found[key] = ours[key]
    return found


def flat(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values with the mappings opened, save those that describe an object by its ``_target_``."""
    for key, value in given.items():
        if not isinstance(key, str):
            raise ValueError(f"settings: keys are texts, got {key!r}")
        if isinstance(value, Mapping) and "_target_" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
