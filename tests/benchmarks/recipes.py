"""One training step of tokenizer recipes, in floating-point operations and seconds.

``python -m tests.benchmarks.recipes cifar10_sonnet cifar10``; ratios are to the first recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.config.instantiate import build
from tests.benchmarks.timing import fastest_in_turns
from tests.support.tiny import compose

HEADINGS = ("recipe", "batch", "GFLOP / step", "ratio", "seconds / step", "ratio")


def training_step(recipe: str, precision: str) -> tuple[int, Callable[[], None]]:
    """The batch size of a recipe, and its step: forward, backward, optimiser, codebook."""
    stage = compose(f"experiment={recipe}")["stage1"]
    torch.manual_seed(0)
    model = build(stage["model"], "stage1.model")
    objective = build(stage["objective"], "stage1.objective")
    optimizer = build(stage["optimization"], "stage1.optimization")(model, 1)["optimizer"]
    images = torch.rand(stage["batch_size"], model.channels, *model.image_size) * 2 - 1

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            passed = model(images)
            loss = objective(passed.images, images) + passed.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.step()

    return stage["batch_size"], step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", help="names below conf/experiment")
    parser.add_argument("--repeats", type=int, default=20, help="steps of which the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batches, steps = zip(*(training_step(recipe, arguments.precision) for recipe in arguments.recipes), strict=True)
    operations = []
    for step in steps:
        step()  # the first starts the codebook
        with FlopCounterMode(display=False) as counter:
            step()
        operations.append(counter.get_total_flops())
    times = fastest_in_turns(steps, arguments.repeats)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for recipe, batch, count, fastest in zip(arguments.recipes, batches, operations, times, strict=True):
        ratios = f"{count / operations[0]:.2f}", f"{fastest / times[0]:.2f}"
        print(f"| {recipe} | {batch} | {count / 1e9:.2f} | {ratios[0]} | {fastest:.3f} | {ratios[1]} |")


if __name__ == "__main__":
    main()
