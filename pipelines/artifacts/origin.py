"""Where a generator's models come from, for whoever saves them once more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.artifacts.models import CODES_OF
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

    @property
    def images_fingerprint(self) -> str:
        """What the images that are drawn are known by: the prior's fingerprint, which covers its tokenizer's.

        Where the tokenizer's decoder was trained further, it is a SHA-256 of the fingerprints of both.
        """
        prior = self.fingerprints["prior"]
        if CODES_OF not in self.tokenizer:
            return prior
        return hashlib.sha256(f"{prior} {self.fingerprints['tokenizer']}".encode()).hexdigest()
