"""Weights of a finished run as the start of another one, where they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.markup import escape
from torch import Tensor, nn

from pipelines.artifacts.models import Saved
from pipelines.cli.console import console
from pipelines.config.settings import Settings

KINDS = {"stage1": "tokenizer", "stage2": "prior"}
"""What a stage trains, and its folder in a run."""

SHOWN = 3
"""Modules without a start that are named."""


@dataclass(frozen=True)
class Taken:
    """What a model took of other weights.

    Attributes:
        numbers: How many of its numbers it took.
        total: How many it has.
        new: The modules that took none, and why.
    """

    numbers: int
    total: int
    new: dict[str, str]


def init_fingerprint(settings: Settings, stage: str) -> dict[str, str]:
    """What a stage starts from, for a claim; empty where it starts anew.

    Raises:
        ValueError: If the run is not there or has no such model.
    """
    run = settings[stage].get("init")
    return {} if run is None else {"init": _saved(run, stage).fingerprint}


def _saved(run: str, stage: str) -> Saved:
    try:
        return Saved.open(Path(run) / KINDS[stage], KINDS[stage])
    except ValueError as error:
        raise ValueError(f"init={run}: {error}") from None


def warm_start(model: nn.Module, stage: str, settings: Settings) -> None:
    """Give a stage's model the weights of the run that ``init`` names, where they fit, and say what was taken.

    Raises:
        ValueError: If the run is not there or has no such model.
    """
    run = settings[stage].get("init")
    if run is None:
        return
    kind = KINDS[stage]
    taken = take_fitting(model, _saved(run, stage).weights(type(model)))
    named = [f"{name} ({reason})" for name, reason in taken.new.items()]
    new = ", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
    console.print(
        f"{kind}: {taken.numbers:,} of {taken.total:,} numbers start from {escape(str(run))}"
        + (f"; new: {escape(new)}" if named else "")
    )


@torch.no_grad()
def take_fitting(model: nn.Module, weights: Mapping[str, Tensor]) -> Taken:
    """Copy weights into a model, module by module: all tensors of a module's own, or none.

    A codebook of another size keeps its random start with all that belongs to it, and is started from data as a new
    one is.

    Args:
        model: Gets them.
        weights: By name, as a state dict has them.
    """
    numbers, new = 0, {}
    state = model.state_dict()
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        inner = {f"{prefix}{key}" for key in (*module._parameters, *module._buffers)}
        own = {key: tensor for key, tensor in state.items() if key in inner}
        reasons = [reason for key, tensor in own.items() if (reason := misfit(tensor, weights.get(key)))]
        if reasons:
            new[name] = reasons[0]
            continue
        for key, tensor in own.items():
            tensor.copy_(weights[key])
            numbers += tensor.numel()
    return Taken(numbers, sum(tensor.numel() for tensor in state.values()), new)


def misfit(tensor: Tensor, other: Tensor | None) -> str:
    """Why a tensor cannot take the values of another; empty if it can."""
    if other is None:
        return "not there"
    if tensor.shape == other.shape:
        return ""
    here, there = ("×".join(map(str, each.shape)) or "one number" for each in (tensor, other))
    return f"{here} here, {there} there"
