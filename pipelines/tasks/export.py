"""Write encoder, decoder and prior of a run for other runtimes."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from pipelines.artifacts.models import load_prior, load_tokenizer
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.exporting.write import check_format, export
from pipelines.interchange.vqmodel import write_vqmodel
from stage1_vqvae.tokenizer import Tokenizer

FOLDER = "exported"
"""Folder of a run for its exported models."""


def export_command(settings: Settings) -> Path:
    """Export ``settings["model"]`` into ``settings["output"]``; of a run without a prior the tokenizer alone.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no finished tokenizer, it is of no architecture that the format has, or a package is
            missing.
    """
    check_format(settings["format"])
    run = RunFolder(Path(settings["model"]))
    output = Path(settings["output"] or run.path / FOLDER)
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    if settings["format"] == "vqmodel":
        return export_vqmodel(output, tokenizer)
    prior, names = None, ()
    if finished(run.prior):
        prior, known = load_prior(run.prior, saved.codes_fingerprint, settings["trust"])
        names = tuple(known.config["class_names"])
    if collectives.rank() == 0:
        for path in export(output, tokenizer, prior, names, settings["format"]):
            console.print(escape(str(path)))
        if prior is None:
            console.print("[yellow]![/] the run has no finished prior: its tokenizer alone is exported")
    collectives.barrier()
    return output


def export_vqmodel(output: Path, tokenizer: Tokenizer) -> Path:
    """Write a tokenizer as a ``VQModel`` of diffusers, which has no prior."""
    if collectives.rank() == 0:
        for path in write_vqmodel(output, tokenizer):
            console.print(escape(str(path)))
    collectives.barrier()
    return output
