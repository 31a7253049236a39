"""A command's settings from Python: composed and checked as its command line would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipelines.cli.mistakes import explain
from pipelines.config.conf import CONF, groups
from pipelines.config.schema import check_settings
from pipelines.config.settings import Settings


def composed_settings(command: str, given: Mapping[str, Any]) -> Settings:
    """Settings of a command, of which all is known to be right that can be known without importing what they name.

    Hydra's global state is left as it was found.

    Args:
        command: Its file in ``conf``.
        given: Keys and values. A key is a group (``stage2``), a place (``stage1.trainer.max_steps``) or the name of a
            node whose value is a mapping of keys below it.

    Raises:
        ValueError: If a key or value is wrong; the message is the command line's.
    """
    return settings_from(command, [override(key, value) for key, value in flat(given)])


def settings_from(command: str, overrides: Sequence[str]) -> Settings:
    """The same from the words of a command line.

    Raises:
        ValueError: If a key or value is wrong; the message is the command line's.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(command, overrides=list(overrides))
        return {**checked(config, command), "overrides": list(overrides)}
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error


def checked(config: DictConfig, command: str) -> Settings:
    """A configuration that Hydra composed, as settings.

    Raises:
        ValueError: If a value is missing, or a key or value is wrong.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))}: a value is needed, e.g. {min(missing)}=...")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = {str(key): value for key, value in plain.items()}
    if settings.get("output") is not None:
        settings["output"] = str(Path(settings["output"]).expanduser().absolute())
    check_settings(settings, command)
    return settings


def flat(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values with the mappings opened, save those that describe an object by its ``_target_``."""
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def override(key: str, value: Any) -> str:
    """Hydra's override of a key; a group's options are chosen, other keys set, whether or not they were there."""
    name = key.partition("@")[0]
    if isinstance(value, str) and name in groups():
        return f"{key}={value}"
    return f"++{key}={_literal(value)}"


def _literal(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_literal, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
