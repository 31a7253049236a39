"""What a user got wrong, in one line."""

from __future__ import annotations

from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from pipelines.config.conf import groups
from pipelines.config.instantiate import suggestion


class AlreadySaid(RuntimeError):
    """A failure of which another process has said why."""


def explain(error: BaseException) -> str:
    """What Hydra found wrong with the command line, with the nearest key where one is unknown."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
            key, valid = str(cause.key), [str(key) for key in cause.parent_node]
            if "/" in key:  # a group's name, that Hydra looks for among the keys when there is no such group
                valid = groups()
            return f"{cause.full_key}: no such key;{suggestion(key, valid)}"
        cause = cause.__cause__
    return one_line(error)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
