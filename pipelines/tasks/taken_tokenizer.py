"""``tokenizer=RUN``: a finished run's tokenizer in place of one that is trained, for other images too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.overrides import key_of
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from stage1_vqvae.files import replacing
from stage1_vqvae.tokenizer import Tokenizer

FILES = ("model.safetensors", "metrics.json", "config.yaml")
"""What is copied; the configuration last: a folder that has it is complete."""


def with_tokenizer(settings: Settings) -> Settings:
    """Settings of a command as its ``tokenizer`` asks for; as they are where it is null or done.

    The tokenizer's model, image size and channels take the place of those in the settings, and so does the range that
    it knows of images of more than 8 bits, unless one is given. ``taken_from`` is added, the tokenizer's fingerprint.

    Raises:
        ValueError: If there is no such tokenizer, or the command line asks for another size or other channels.
    """
    if not settings.get("tokenizer") or "taken_from" in settings:
        return settings
    if settings.get("budget"):
        raise ValueError("tokenizer and budget: a budget plans both stages: give one of the two")
    folder = Path(settings["tokenizer"]).expanduser().absolute()
    run = RunFolder(folder)
    if not finished(run.tokenizer):
        raise ValueError(f"tokenizer={settings['tokenizer']}: {run.tokenizer} holds no finished tokenizer")
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    data = {**settings["data"], **taken_data(tokenizer, saved.config)}
    for key in _given(settings):
        if key in data and settings["data"][key] != data[key]:
            if key != "range":
                raise ValueError(
                    f"data.{key}={settings['data'][key]}: the tokenizer of {folder} has {data[key]}: "
                    f"leave data.{key} out"
                )
            data[key] = settings["data"][key]
    stage1 = {**settings["stage1"], "model": saved.config["model"]}
    return {**settings, "data": data, "stage1": stage1, "tokenizer": str(folder), "taken_from": saved.fingerprint}


def taken_data(tokenizer: Tokenizer, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a tokenizer says of the images that it takes, as keys of ``data``."""
    found: dict[str, Any] = {"image_size": list(tokenizer.image_size), "channels": tokenizer.channels}
    trained_on = config.get("data", {}).get("train", {}).get("preprocessing", {})
    return found | ({"range": trained_on["range"]} if trained_on.get("range") else {})


def _given(settings: Settings) -> list[str]:
    """Keys of ``data`` that the command line sets."""
    keys = map(key_of, settings.get("overrides") or ())
    return [key.removeprefix("data.") for key in keys if key.startswith("data.")]


def take_tokenizer(run: RunFolder, settings: Settings) -> None:
    """Copy the tokenizer that ``settings["tokenizer"]`` names into a run's folder."""
    source = RunFolder(Path(settings["tokenizer"])).tokenizer
    if collectives.rank() == 0:
        for name in FILES:
            if (source / name).exists():
                with replacing(run.tokenizer / name) as temporary:
                    temporary.write_bytes((source / name).read_bytes())
    collectives.barrier()
    console.print(f"[green]✓[/] tokenizer: taken from {source}")
