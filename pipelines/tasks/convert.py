"""Make a run of a tokenizer from elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.markup import escape

from pipelines.artifacts.models import fingerprint, save_model
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.inputs.numbers import image_size_of
from pipelines.interchange.taming import read_taming
from pipelines.interchange.vqmodel import CONFIG, read_vqmodel
from stage1_vqvae.tokenizer import Tokenizer


def convert(settings: Settings) -> Path:
    """Write the tokenizer that ``settings`` names below ``settings["output"]``.

    Returns:
        The run's folder.

    Raises:
        ValueError: If there is none, it is of an architecture that ours lacks, or the folder holds another one.
    """
    run = RunFolder(Path(settings["output"]))
    tokenizer, node = read(settings)
    if collectives.rank() == 0:
        write(run, tokenizer, node, settings)
        console.print(f"[green]✓[/] tokenizer: {tokenizer.layout.in_words} ({escape(str(run.tokenizer))})")
        console.print(f"a prior on it: python -m pipelines.run tokenizer={escape(str(run.path))} output=…")
    collectives.barrier()
    return run.path


def read(settings: Settings) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer that is asked for, and the configuration that builds it."""
    if (settings["model"] is None) == (settings["module"] is None):
        raise ValueError("model or module: give one of the two")
    size = None if settings["image_size"] is None else image_size_of(settings["image_size"])
    if settings["module"] is not None:
        if size is None:
            raise ValueError("image_size: give that of the module's images, image_size=[64,64]")
        node = {
            "_target_": "stage1_vqvae.ModuleTokenizer",
            "image_size": list(size),
            "channels": settings["channels"],
            "module": settings["module"],
        }
        built: Tokenizer = build(node, "", settings["trust"])
        return built.eval(), node
    path = Path(settings["model"]).expanduser()
    if path.is_dir() and (path / CONFIG).is_file():
        return read_vqmodel(path, size)
    if path.is_file():
        config = settings["config"]
        return read_taming(path, None if config is None else Path(config).expanduser(), size)
    raise ValueError(f"model={path}: a folder with {CONFIG}, or a file of weights, expected")


def write(run: RunFolder, tokenizer: Tokenizer, node: dict[str, Any], settings: Settings) -> None:
    """Write a tokenizer's folder, unless it is there.

    Raises:
        ValueError: If another one is.
    """
    described = {"model": node}
    if finished(run.tokenizer):
        with tempfile.TemporaryDirectory() as aside:
            if save_model(aside, "tokenizer", tokenizer, described, settings["trust"]) == fingerprint(run.tokenizer):
                return
        raise ValueError(f"{run.tokenizer} holds another tokenizer: give another output=")
    save_model(run.tokenizer, "tokenizer", tokenizer, described, settings["trust"])
