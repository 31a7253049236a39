"""Write a finished run as a folder to publish, and send it to the hub where that is asked."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.origin import Origin
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.generator import Generator
from pipelines.publishing.card import Author
from pipelines.publishing.folder import Models, write_folder
from pipelines.publishing.hub import PREFIX, upload
from pipelines.publishing.pretrained import SHOWN, check_can_be_sent

FOLDER = "published"
"""Folder of a run for what is published of it."""


def publish(settings: Settings) -> Path:
    """Write ``settings["model"]`` into ``settings["output"]``, and send it where ``settings["push"]`` says.

    Returns:
        The folder.

    Raises:
        ValueError: If there is nothing to publish, the folder holds something else, or the hub refuses it.
    """
    run, repo = RunFolder(Path(settings["model"])), settings["push"]
    folder = Path(settings["output"] or run.path / FOLDER)
    if repo is not None:
        check_can_be_sent(repo, settings["license"])
    if collectives.rank() == 0:
        models = models_of(run, settings)
        name = None if repo is None else repo.removeprefix(PREFIX)
        write_folder(folder, models, settings["part"], Author(settings["license"], settings["description"], name))
        console.print(f"{escape(str(folder))}")
        if settings["license"] is None:
            console.print("[yellow]![/] no licence is named: others may not use it; license=mit names one")
        if name is not None:
            address = upload(folder, name, settings["private"], None, commit_message="Add the model")
            console.print(f"[green]✓[/] sent to {PREFIX}{name} ({address})")
    collectives.barrier()
    return folder


def models_of(run: RunFolder, settings: Settings) -> Models:
    """The models of a run, whose prior need not be there."""
    device = build(settings["hardware"], "hardware").device
    if not finished(run.prior):
        tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
        known = Origin(run, {"tokenizer": saved.fingerprint}, saved.config, trust=tuple(settings["trust"]))
        return Models(tokenizer, None, None, known)
    generator = Generator.load(run.path, device, settings["trust"])
    assert generator.origin is not None
    return Models(
        generator.tokenizer,
        generator.prior,
        generator.settings,
        generator.origin,
        lambda: generator.sample(SHOWN).grid(),
    )
