"""A training step with options that change no result beyond rounding, beside the step as it is.

``python -m tests.benchmarks.options signs64:1 signs64:2``; an option that a stage does not have is left out. Steps take
turns in one process, and the fastest of each counts. Memory is what the forward pass keeps for the backward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.budget.timing import prior_step, tokenizer_step
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from tests.benchmarks.timing import fastest_in_turns
from tests.support.tiny import compose

OPTIONS = {
    "as it is": [],
    "channels last": ["hardware.channels_last=true"],
    "compiled": ["hardware.compile=true"],
    "bfloat16": ["hardware.precision=bf16-mixed"],
    "bfloat16, channels last": ["hardware.precision=bf16-mixed", "hardware.channels_last=true"],
    "activation checkpointing": ["{stage}.model.activation_checkpointing=true"],
}
HEADINGS = ("recipe, stage", "option", "seconds / step", "ratio", "kept, MiB")


def settings_of(recipe: str, *words: str) -> Settings:
    """The settings of a recipe, whose data are never opened."""
    return compose(f"experiment={recipe}", "++data.files=none", *words)


def steps_of(recipe: str, stage: str) -> dict[str, Callable[[], None]]:
    """A training step of a recipe's stage on random data, by each option that the stage has."""
    make = {"stage1": tokenizer_step, "stage2": prior_step}[stage]
    checkpoints = "activation_checkpointing" in settings_of(recipe)[stage]["model"]
    steps = {}
    for option, words in OPTIONS.items():
        if ("channels" in option and stage == "stage2") or ("checkpointing" in option and not checkpoints):
            continue
        settings = settings_of(recipe, *(word.format(stage=stage) for word in words))
        torch.manual_seed(0)
        steps[option] = make(settings, build(settings["hardware"], "hardware"))
    return steps


def mebibytes_kept(step: Callable[[], None]) -> float:
    """Memory of the tensors that a step keeps for its backward pass, each counted once."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", help="names below conf/experiment, with :1 or :2 for the stage")
    parser.add_argument("--repeats", type=int, default=5, help="steps of which the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for name in arguments.recipes:
        recipe, _, number = name.partition(":")
        steps = steps_of(recipe, f"stage{number}")
        for step in [*steps.values()] * 2:  # the first starts the codebook, and compiles; the next compiles again
            step()
        times = fastest_in_turns([*steps.values()], arguments.repeats)
        for (option, step), fastest in zip(steps.items(), times, strict=True):
            kept = "" if option == "compiled" else f"{mebibytes_kept(step):.0f}"  # its own graph keeps what it needs
            print(f"| {name} | {option} | {fastest:.3f} | {fastest / times[0]:.2f} | {kept} |")


if __name__ == "__main__":
    main()
