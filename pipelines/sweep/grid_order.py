"""The order in which the jobs of a grid run: that of the command line, or a random one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.override_parser.types import Override


@contextmanager
def grid_in_random_order() -> Iterator[None]:
    """Make Hydra's own sweeper run a grid in a random order, the same for each grid of a size.

    Jobs are pruned if those before them were better. Values are often listed from the worst to the best, and then no
    job would be.
    """
    # Not at the top: Hydra loads the modules of its plugins anew when it looks for them.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    split = BasicSweeper.split_arguments

    def shuffled(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        (jobs,) = split(overrides, None)
        random.Random(0).shuffle(jobs)
        return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size))

    BasicSweeper.split_arguments = staticmethod(shuffled)  # type: ignore[method-assign]
    try:
        yield
    finally:
        BasicSweeper.split_arguments = staticmethod(split)  # type: ignore[method-assign]
