"""Graphs on disk: ONNX, or torch.export."""

from __future__ import annotations

import inspect
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pipelines.exporting.graphs import Decoder, Encoder, step_of
from stage1_vqvae.files import replacing, write_json
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior

Format = Literal["onnx", "torch_export"]
"""Of graphs."""

FORMATS = (*get_args(Format), "vqmodel")
"""Whatever ``pipelines.export`` writes; :mod:`pipelines.interchange` writes the others."""

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}

RUNNER = Path(__file__).with_name("runner.py")


def export(folder: Path, tokenizer: Tokenizer, prior: Prior | None, names: tuple[str, ...], form: Format) -> list[Path]:
    """Write ``encoder``, ``decoder`` and ``prior`` into a folder, with ``config.json``; for ONNX also a runner.

    Args:
        folder: Where to.
        tokenizer: In eval mode, on the CPU.
        prior: Likewise; None for none.
        names: Of its classes.
        form: Of the files.

    Returns:
        The files of the models.

    Raises:
        ValueError: If a package is missing.
    """
    check_format(form)
    layout = tokenizer.layout
    image = torch.zeros(2, tokenizer.channels, *tokenizer.image_size)
    codes = torch.zeros(2, layout.length, dtype=torch.int64)
    config: dict[str, Any] = {
        "image_size": list(tokenizer.image_size),
        "channels": tokenizer.channels,
        **layout.to_dict(),
        "length": layout.length,
    }
    graphs: dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...], tuple[str, ...]]] = {
        "encoder": (Encoder(tokenizer), (image,), ("images",), ("codes",)),
        "decoder": (Decoder(tokenizer), (codes,), ("codes",), ("images",)),
    }
    written = []
    for name, graph in graphs.items():
        written.append(folder / f"{name}{SUFFIXES[form]}")
        write_graph(written[-1], *graph, form)
    if prior is not None:
        written.append(folder / f"prior{SUFFIXES[form]}")
        config |= {**write_prior(written[-1], prior, form), "class_names": list(names)}
    if form == "onnx":
        shutil.copyfile(RUNNER, folder / RUNNER.name)
    write_json(folder / "config.json", config)
    return written


def write_prior(path: Path, prior: Prior, form: Format) -> dict[str, Any]:
    """Write the step of a prior.

    Returns:
        What its caller has to know: the number of classes, and shape (but for the batch) and type of each state.
    """
    step = step_of(prior).eval()
    state = step.state(2)
    kept = tuple(f"state_{index}" for index in range(len(state)))
    codes, labels = (torch.zeros(2, dtype=torch.int64) for _ in range(2))
    given = (codes, labels, torch.zeros(1, dtype=torch.int64), *state)
    outputs = ("logits", *(f"new_{name}" for name in kept))
    write_graph(path, step, given, ("previous", "labels", "position", *kept), outputs, form)
    shapes = [[list(each.shape[1:]), str(each.dtype).removeprefix("torch.")] for each in state]
    return {"num_classes": prior.num_classes, "state": shapes}


def write_graph(
    path: Path,
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    form: Format,
) -> None:
    """Write one module; the first axis of each argument with more than one row is open."""
    batch = torch.export.Dim("batch", min=1)
    named = inspect.signature(module.forward).bind(*arguments).arguments
    shapes = tree_map(lambda argument: {0: batch} if argument.shape[0] > 1 else {}, dict(named))
    with replacing(path) as temporary, torch.no_grad(), quiet():
        program = torch.export.export(module, arguments, dynamic_shapes=shapes)
        if form == "torch_export":
            torch.export.save(program, temporary)
        else:
            from onnx_ir.passes.common import RemoveUnusedNodesPass

            found = torch.onnx.export(program, arguments, input_names=inputs, output_names=outputs, verbose=False)
            assert found is not None
            RemoveUnusedNodesPass()(found.model)  # else onnxruntime warns of constants that a branch left behind
            found.save(temporary, external_data=False)


def check_format(form: str) -> None:
    """Raise ValueError if there is no such format, or a package that it needs is missing."""
    if form not in FORMATS:
        raise ValueError(f"format: {' or '.join(FORMATS)} expected, got {form!r}")
    if form == "onnx":
        try:
            import onnxruntime  # noqa: F401  that it is there
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f"format=onnx needs {error.name}: pip install 'vqvae-prior[onnx]', or format=torch_export"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what exporters say to their developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
