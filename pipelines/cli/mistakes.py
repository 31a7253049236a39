"""What a user got wrong, in one line."""

from __future__ import annotations

import re

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationKeyError

from pipelines.cli.arguments import quoted
from pipelines.config.conf import groups, options
from pipelines.config.instantiate import no_such_key, suggestion


class AlreadySaid(RuntimeError):
    """A failure of which another process has said why."""


def explain(error: BaseException) -> str:
    """What Hydra or OmegaConf found wrong, in one line that says what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
            return unknown_key(str(cause.full_key), str(cause.key), cause.parent_node)
        if isinstance(cause, InterpolationKeyError) and (missing := re.search(r"key '([\w.]+)'", str(cause))):
            return f"{missing[1]}: a value is needed; {cause.full_key} is taken from it"
        if isinstance(cause, MissingConfigException) and cause.options and cause.missing_cfg_file:
            group, _, option = cause.missing_cfg_file.rpartition("/")
            return f"{group}={option}: no such option;{suggestion(option, sorted(options(group)))}"
        if isinstance(cause, OverrideParseException):
            return unreadable(cause.override)
        cause = cause.__cause__
    return one_line(error)


def unknown_key(path: str, key: str, parent: DictConfig) -> str:
    """A message about a key that is not there, with the nearest that is."""
    if "/" in key:  # a group's name, that Hydra looks for among the keys when there is no such group
        return f"{path}: no such key;{suggestion(key, groups())}"
    if parent:
        return no_such_key(path, keys_to_set(parent), parent.get("_target_", None))
    names = path.split(".")[:-1]
    for index in range(1, len(names) - 1):  # stage1.model.quantizer is ${stage1.quantizer}
        source = ".".join(names[:index] + names[index + 1 :])
        node = OmegaConf.select(parent._get_root(), source)
        if isinstance(node, DictConfig) and node:
            near = suggestion(key, keys_to_set(node))
            return f"{path}: {'.'.join(names)} is taken from {source}, set that;{near}"
    return f"{path}: no such key;{suggestion(key, ())}"


def keys_to_set(node: DictConfig) -> list[str]:
    """Keys of a node that people set."""
    return [name for name in map(str, node) if name not in ("hydra", "_target_")]


def unreadable(override: str) -> str:
    """A message about an override that Hydra cannot parse, with how to quote its value."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: key=value expected; Hydra's own flags begin with --"
    quotes = f'"{key}={quoted(value)}"'
    return f"{override}: a character has a meaning of its own in Hydra's grammar; a text is quoted: {quotes}"


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
