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
from tests.benchmarks.timing import once
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


def step_of(recipe: str, stage: str, words: list[str]) -> Callable[[], None]:
    """A training step of a recipe's stage on random data."""
    settings: Settings = compose(f"experiment={recipe}", "++data.files=none", *words)
    hardware = build(settings["hardware"], "hardware")
    torch.manual_seed(0)
    return {"stage1": tokenizer_step, "stage2": prior_step}[stage](settings, hardware)


def has(recipe: str, stage: str, option: str) -> bool:
    """Whether a stage has an option; the memory format is one of images."""
    if "channels" in option:
        return stage == "stage1"
    model = compose(f"experiment={recipe}", "++data.files=none")[stage]["model"]
    return "checkpointing" not in option or "activation_checkpointing" in model


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
        stage = f"stage{number}"
        found = {option: words for option, words in OPTIONS.items() if has(recipe, stage, option)}
        steps = {
            option: step_of(recipe, stage, [word.format(stage=stage) for word in words])
            for option, words in found.items()
        }
        fastest = dict.fromkeys(steps, float("inf"))
        for _ in range(2 + arguments.repeats):  # the first starts the codebook, and compiles; the next compiles again
            for option, step in steps.items():
                fastest[option] = min(fastest[option], once(step))
        for option, step in steps.items():
            ratio = fastest[option] / fastest["as it is"]
            kept = "" if option == "compiled" else f"{mebibytes_kept(step):.0f}"  # its own graph keeps what it needs
            print(f"| {name} | {option} | {fastest[option]:.3f} | {ratio:.2f} | {kept} |")


if __name__ == "__main__":
    main()
