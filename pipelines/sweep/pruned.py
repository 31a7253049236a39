"""What is kept of a training that ended early: ``pruned.json`` in its folder, so that it is not trained again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stage1_vqvae.files import read_json, write_json

NOTE = "pruned.json"
"""The file, in the folder of a job and of what jobs share."""

REASONS = ("prune", "stop_if", "objective")
"""Settings that decide when a training ends early."""


class JobPruned(Exception):
    """A training ended before its last step, as ``prune`` or ``stop_if`` asks for.

    Attributes:
        value: The last of the objective, for a sweeper; None where there is none.
    """

    def __init__(self, reason: str, value: float | None) -> None:
        super().__init__(reason)
        self.value = value


@contextmanager
def noting_pruned(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Note in a folder that the training in the block ended early; with another rule it goes on where it was.

    Args:
        folder: Of a job, or of what jobs share.
        settings: Of a command that trains.

    Raises:
        JobPruned: If it ended early, now or before by the same rule.
    """
    path, rule = folder / NOTE, {key: settings.get(key) for key in REASONS}
    if path.exists():
        kept = read_json(path)
        if kept["rule"] == rule:
            raise JobPruned(kept["reason"], kept["value"])
        path.unlink(missing_ok=True)
    try:
        yield
    except JobPruned as pruned:
        write_json(path, {"reason": str(pruned), "value": pruned.value, "rule": rule})
        raise
