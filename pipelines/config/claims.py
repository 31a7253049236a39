"""Which settings made a thing, kept beside it: what is done is not done again, and never under another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.config.instantiate import with_defaults
from pipelines.config.migrations import modernised
from pipelines.config.redaction import redact
from pipelines.distributed import collectives
from stage1_vqvae.files import check_writable, read_yaml, write_yaml


def claim(
    path: Path,
    settings: Mapping[str, Any],
    what: str,
    defaults: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
) -> None:
    """Say that ``settings``, secrets aside, make what lies beside ``path``; called before work starts.

    Args:
        path: A YAML file.
        settings: Plain data.
        what: Name of the thing, for the message.
        defaults: Values of keys that an earlier version did not write.
        trust: Further packages whose classes may be named.

    Raises:
        ValueError: If other settings made what is there.
        OSError: If nothing can be written there.
    """
    settings = redact(settings)
    if path.exists():
        old, new = ({**(defaults or {}), **comparable(plain, trust)} for plain in (read_yaml(path), settings))
        difference = differences(old, new)
        if difference:
            shown = "; ".join(difference[:3]) + (f"; and {len(difference) - 3} more" if len(difference) > 3 else "")
            raise ValueError(
                f"{path.parent} holds a {what} of other settings ({shown}): "
                "give those, or another output=, or remove that folder"
            )
    collectives.barrier()
    if collectives.rank() == 0 and not path.exists():
        check_writable(path.parent, room=0)
        write_yaml(path, dict(settings))
    collectives.barrier()


def comparable(settings: Mapping[str, Any], trust: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of any version by today's names, with what they leave to defaults written out."""
    named = {key: _named(value) for key, value in modernised(settings).items()}
    filled: dict[str, Any] = with_defaults(named, trust)
    return filled


def _named(value: Any) -> Any:
    """A stage's settings in which those of its trainer say their class, as everything else does."""
    if isinstance(value, Mapping) and isinstance(value.get("trainer"), Mapping):
        return {**value, "trainer": {"_target_": "pipelines.training.StageTrainer", **value["trainer"]}}
    return value


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two pieces of plain data differ, as ``key: old, now new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    return [] if old == new else [f"{path}: {old}, now {new}"]
