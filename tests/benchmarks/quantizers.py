"""One training step of vector quantization, against public implementations: ``python -m tests.benchmarks.quantizers``.

Each contender runs in processes of its own: one for each N vectors of D channels and K codes. The peers come with
``pip install -e '.[benchmarks]'``; one that is not installed is left out. The floor is what no exact search can do
without: the products of all vectors and codes in tiles, and the places of their maxima. It learns nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys

from tests.benchmarks.quantizer_step import CONTENDERS, PEERS

SIZES = [(16384, 1024, 64), (16384, 8192, 32), (8192, 65536, 16)]
HEADINGS = ("N", "K", "D", "contender", "seconds", "peak MiB", "seconds / floor", "ours faster by", "peak / ours")


def measure(contender: str, size: tuple[int, int, int], device: str, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds of a step and MiB of memory beyond the inputs at its peak, from a process that does nothing else."""
    command = [sys.executable, "-m", "tests.benchmarks.quantizer_step", contender, *map(str, size)]
    options = ["--device", device, "--repeats", str(repeats)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    printed = subprocess.run([*command, *options], env=environment, check=True, capture_output=True, text=True).stdout
    seconds, peak = printed.splitlines()[-1].split()
    return float(seconds), float(peak)


def rows(size: tuple[int, int, int], device: str, threads: int, repeats: int) -> list[list[str]]:
    """The table's rows for one size."""
    chosen = [name for name in CONTENDERS if name not in PEERS or importlib.util.find_spec(PEERS[name])]
    metrics = {name: measure(name, size, device, threads, repeats) for name in chosen}
    floor, (ours, memory) = metrics["floor"][0], metrics["ours"]
    return [
        [
            *map(str, size),
            name,
            f"{seconds:.3f}",
            f"{peak:.0f}",
            f"{seconds / floor:.2f}",
            f"{seconds / ours:.1f}",
            f"{peak / max(memory, 1):.1f}",
        ]
        for name, (seconds, peak) in metrics.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=range(len(SIZES)), help="which of the sizes, from 0")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for index in arguments.sizes:
        for row in rows(SIZES[index], arguments.device, arguments.threads, arguments.repeats):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
