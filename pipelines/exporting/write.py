"""Graphs on disk: ONNX, or torch.export."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

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
    if prior is not None:
        step = step_of(prior).eval()
        state = step.state(2)
        kept = tuple(f"state_{index}" for index in range(len(state)))
        given = (codes[:, 0], codes[:, 0], torch.zeros(1, dtype=torch.int64), *state)
        inputs = ("previous", "labels", "position", *kept)
        graphs["prior"] = (step, given, inputs, ("logits", *(f"new_{name}" for name in kept)))
        shapes = [[list(each.shape[1:]), str(each.dtype).removeprefix("torch.")] for each in state]
        config |= {"num_classes": prior.num_classes, "class_names": list(names), "state": shapes}
    written = []
    for name, (module, arguments, inputs, outputs) in graphs.items():
        path = folder / f"{name}{SUFFIXES[form]}"
        with replacing(path) as temporary, torch.no_grad(), quiet():
            write_graph(temporary, module, arguments, inputs, outputs, form)
        written.append(path)
    if form == "onnx":
        shutil.copyfile(RUNNER, folder / RUNNER.name)
    write_json(folder / "config.json", config)
    return written


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
    shapes = tuple({0: batch} if argument.shape[0] > 1 else {} for argument in arguments)
    program = torch.export.export(module, arguments, dynamic_shapes=shapes)
    if form == "torch_export":
        torch.export.save(program, path)
    else:
        torch.onnx.export(
            program, arguments, path, input_names=inputs, output_names=outputs, external_data=False, verbose=False
        )


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
