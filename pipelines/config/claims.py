"""Which settings made a thing, kept beside it: what is done is not done again, and never under another name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.artifacts.models import read_yaml, write_yaml
from pipelines.config.redaction import redact
from pipelines.distributed import collectives
from stage1_vqvae.files import check_writable


def claim(path: Path, settings: Mapping[str, Any], what: str) -> None:
    """Say that ``settings``, secrets aside, make what lies beside ``path``; called before work starts.

    Args:
        path: A YAML file.
        settings: Plain data.
        what: Name of the thing, for the message.

    Raises:
        ValueError: If other settings made what is there.
        OSError: If nothing can be written there.
    """
    settings = redact(settings)
    if path.exists():
        difference = differences(read_yaml(path), settings)
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


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two pieces of plain data differ, as ``key: old, now new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    return [] if old == new else [f"{path}: {old}, now {new}"]
