"""Where a generator's models come from, for whoever saves them once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.artifacts.run_folder import RunFolder


@dataclass(frozen=True)
class Origin:
    """The run of a tokenizer and its prior, and what the run knows of them.

    Attributes:
        run: The run's folder.
        fingerprints: Of what the run has, by kind, ``tokenizer`` and ``prior``.
        tokenizer: The tokenizer's configuration, by the names of today.
        prior: The prior's; None where there is none.
        trust: Packages beside this project's whose classes they name.
    """

    run: RunFolder
    fingerprints: Mapping[str, str]
    tokenizer: Mapping[str, Any]
    prior: Mapping[str, Any] | None = None
    trust: tuple[str, ...] = ()
