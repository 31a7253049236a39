"""What the jobs of a sweep know of the launch that they belong to, also in processes and on machines of their own."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

VARIABLE = "VQVAE_PRIOR_LAUNCH"
"""Variable of the environment that launchers hand on to the processes of jobs."""


@dataclass(frozen=True)
class Launch:
    """One launch of a sweep.

    Attributes:
        name: Tells it from others.
        jobs: How many it has; 0 where that is not known.
        keys: Keys that are swept over.
        start: When it began, in seconds since 1970.
    """

    name: str = ""
    jobs: int = 0
    keys: tuple[str, ...] = ()
    start: float = 0.0

    @classmethod
    def of(cls, config: DictConfig, overrides: Sequence[Override]) -> Launch:
        """The launch of a sweep that begins now.

        Args:
            config: As Hydra composed it for the sweep.
            overrides: Of its command line.
        """
        keys = tuple(override.key_or_group for override in overrides if override.is_sweep_override())
        jobs, now = config.hydra.sweeper.get("n_trials") or combinations(overrides), time.time()
        return cls(f"{os.getpid()}-{now:.6f}", jobs, keys, now)

    @classmethod
    def current(cls) -> Launch:
        """The launch that this process belongs to; one that knows nothing where there is none."""
        text = os.environ.get(VARIABLE)
        if text is None:
            return cls()
        found = json.loads(text)
        return cls(found["name"], found["jobs"], tuple(found["keys"]), found["start"])

    def begin(self) -> None:
        """Make it the current one."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    @staticmethod
    def end() -> None:
        """Leave no current one."""
        os.environ.pop(VARIABLE, None)


def combinations(overrides: Sequence[Override]) -> int:
    """Jobs of a sweep over all combinations of the values that are listed."""
    listed = (override for override in overrides if override.is_discrete_sweep())
    return math.prod(sum(1 for _ in override.sweep_string_iterator()) for override in listed)
