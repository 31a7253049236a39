"""A training on several processes of this machine beside the same training on one, which has all its cores.

``python -m tests.benchmarks.ranks mnist5k:1 mnist5k:2``. The batches are the same; the processes share them and the
cores. Seconds are those of the fastest steps, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

from pipelines.distributed import collectives
from pipelines.distributed.hardware import Hardware
from pipelines.distributed.launch import run_on_all
from pipelines.distributed.threads import threads_each
from pipelines.training.fit import fit
from stage1_vqvae.files import read_json, write_json
from tests.benchmarks.training import case

HEADINGS = ("recipe", "one process, ms / step", "{ranks} processes, ms / step", "one / {ranks}")


class WallClock(Callback):
    """Seconds at the beginning of every batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.times.append(time.perf_counter())


def train(name: str, steps: int, ranks: int, folder: str) -> None:
    """Train on this process, one of ``ranks``; the first writes the seconds of each step to ``seconds.json``."""
    if ranks == 1:
        torch.set_num_threads(threads_each(1))
    chosen, clock = case(name, steps), WallClock()
    fit("", chosen.make(), chosen.stage_data(), Path(folder), chosen.trainer, Hardware("cpu", ranks), [], [clock])
    if collectives.rank() == 0:
        write_json(Path(folder) / "seconds.json", [after - before for before, after in pairwise(clock.times[3:])])


def seconds_of_steps(name: str, steps: int, ranks: int) -> list[float]:
    """Seconds of each step of a training in new processes."""
    with tempfile.TemporaryDirectory() as folder:
        run_on_all(train, name, steps, ranks, folder, processes=ranks)
        found: list[float] = read_json(Path(folder) / "seconds.json")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", help="RECIPE:STAGE, or tiny:STAGE")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADINGS)} |".format(ranks=arguments.ranks) + f"\n|{'---|' * len(HEADINGS)}")
    for name in arguments.cases:
        one, several = [], []
        for _ in range(arguments.turns):  # in turns, so that a busy machine is busy for both
            one += seconds_of_steps(name, arguments.steps, 1)
            several += seconds_of_steps(name, arguments.steps, arguments.ranks)
        row = f"{1e3 * min(one):.1f} | {1e3 * min(several):.1f} | {min(one) / min(several):.2f}"
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
