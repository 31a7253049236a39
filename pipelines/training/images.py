"""Opens the images that a command's settings name, and remembers where a run's are."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.markup import escape

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, OtherImages, change_of_content
from pipelines.config.instantiate import build
from pipelines.config.migrations import modernised
from pipelines.config.redaction import redact
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.training.image_record import changes_since, keep_record
from pipelines.training.image_report import report_images
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_yaml, write_yaml

WITHOUT_EFFECT = ("cache", "cache_gib", "workers", "max_bad")
"""Keys of ``data`` that say where and how images are decoded, and change none of them."""

PATHS = ("files", "labels")
"""Keys of ``data`` that may hold the path of a file or a folder."""

STORED = "stored"
"""Value of a key of ``data`` that is left as the run has it."""


def open_images(settings: Settings) -> ImageData:
    """Opens the images of ``settings["data"]`` and says what it found.

    The first rank decodes what is to be cached; the other ranks then open the cache.

    Raises:
        ValueError: If a setting does not fit, or the images are missing or broken.
    """
    source = build(settings["data"], "data", settings["trust"])
    images, fault = None, None
    wait = collectives.LongWait()
    if collectives.rank() == 0:
        try:
            images = source.open()
            report_images(images, settings.get("output"))
        except (ValueError, OSError) as error:  # raised when the other ranks no longer wait
            fault = error
    wait.until_all_arrive()
    if fault is not None:
        raise fault
    return images or source.open()


class RunImages:
    """The images that a run is made of, opened when they are first asked for, and only once.

    Args:
        settings: Of the command.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def opened(self) -> ImageData:
        """The images."""
        return open_images(self._settings)

    def under(self, settings: Settings) -> RunImages:
        """The same images under settings that differ in no more than the augmentation; they are not opened again."""
        images = RunImages(settings)
        augmentation = build(settings["data"], "data", settings["trust"]).augmentation
        images.opened = replace(self.opened, augmentation=augmentation)
        return images

    @cached_property
    def if_there(self) -> ImageData | None:
        """The images, to be compared with those of finished work; None if they are gone, which is said."""
        try:
            return self.opened
        except (ValueError, OSError) as error:
            console.print(f"[yellow]![/] images not compared with those that were used: {escape(str(error))}")
            return None

    def remember(self, run: RunFolder) -> None:
        """Keeps how the images are opened, and which they are, in a run's folder, for its later commands."""
        data = redact({**self._settings["data"], **absolute_paths(self._settings["data"])})
        if collectives.rank() == 0 and not (run.data.exists() and read_yaml(run.data) == data):
            write_yaml(run.data, data)
        if collectives.rank() == 0:
            keep_record(run, self.opened)


def absolute_paths(data: Mapping[str, Any]) -> dict[str, str]:
    """The keys of ``data`` that name something on this machine, as absolute paths; patterns stay patterns."""
    found = {key: data[key] for key in PATHS if isinstance(data.get(key), str) and data[key] != "auto"}
    name = data.get("name")
    if isinstance(name, str) and Path(name).expanduser().is_dir():  # that `datasets` saved to disk
        found["name"] = name
    return {key: os.path.abspath(os.path.expanduser(path)) for key, path in found.items()}


def run_data(run: RunFolder, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a command on a run: the data asked for, or the run's own with the keys that are asked for.

    Args:
        run: The run.
        asked: The command's ``data``. Without a ``_target_`` it holds keys for the run's own; those that are
            ``stored`` are left as the run has them.

    Raises:
        ValueError: If the run's own images are not known, or no longer where they were.
    """
    if "_target_" in asked:
        return dict(asked)
    kept = run.data if run.data.exists() else run.tokenizer / SETTINGS
    if not kept.exists():
        raise ValueError(
            f"{run.path} does not say which images it was trained on: give data=folder data.files=..., say"
        )
    stored = modernised(read_yaml(kept))
    own: dict[str, Any] = stored if run.data.exists() else stored["data"]
    data = {**own, **{key: value for key, value in asked.items() if value != STORED}}
    for key in (*PATHS, "name"):
        path = data.get(key)
        # A data set's name is no path, unless it is kept as an absolute one.
        if not isinstance(path, str) or path == "auto" or (key == "name" and not os.path.isabs(path)):
            continue
        if not (os.path.exists(os.path.expanduser(path)) or glob.glob(os.path.expanduser(path))):
            tried = "" if os.path.isabs(path) else f" (looked for at {os.path.abspath(path)})"
            raise ValueError(
                f"data.{key}={path}: nothing is there{tried}; if the images of {run.path} have moved, "
                f"data.{key}=... says where to"
            )
    return data


def is_own(asked: Mapping[str, Any]) -> bool:
    """Whether a command on a run is to use the run's own images, where they were."""
    return "_target_" not in asked and all(value == STORED for key, value in asked.items() if key not in WITHOUT_EFFECT)


def check_same_images(run: RunFolder, images: ImageData, advice: str) -> None:
    """Raises ValueError if a run's tokenizer was trained on other images, or they are held out otherwise.

    Args:
        run: The run.
        images: Those that are there.
        advice: What to do, for the message.
    """
    change = change_of_images(run, images)
    if change:
        raise ValueError(f"the images are not those that {run.tokenizer} was trained on ({change}): {advice}")


def own_or_other_images(run: RunFolder, settings: Settings) -> ImageData:
    """The images that a command measures a run on: those asked for, which is said, or the run's own.

    Raises:
        ValueError: If they cannot be opened, or the run's own are no longer those that it was trained on.
    """
    data = run_data(run, settings["data"])
    images = open_images({**settings, "data": data})
    if is_own(settings["data"]):
        key = "files" if data.get("files") is not None else "name"
        where = f"data.{key}={data[key]}" if data.get(key) is not None else "data=..."
        check_same_images(run, images, f"restore them, or give {where} to measure these")
    elif change := change_of_images(run, images):
        console.print(f"these are not the images that the run was trained on ({change})")
    return images


def change_of_images(run: RunFolder, images: ImageData) -> str:
    """How images differ from those that a run's tokenizer was trained on; empty where they do not."""
    settings = run.tokenizer / SETTINGS
    known = read_yaml(settings).get("images") if settings.exists() else None
    if (
        known is None
    ):  # published folders and version 0.1.0 kept the training images alone, and once they were trained on
        described = read_yaml(run.tokenizer / "config.yaml").get("data", {})
        known = {"train": described["train"]} if "train" in described else {}
    change = change_of_content(known, image_content(images))
    return ", ".join(changes_since(run, images) or change) if change else ""


def other_images(run: RunFolder, images: ImageData) -> OtherImages:
    """What a refusal says of images that are not those of a run."""
    key = "init" if finished(run.prior) else "stage1.init"
    start = f", with {key}={run.path} to start from what was learned" if finished(run.tokenizer) else ""
    advice = f"give those to go on, or another output= to train on these{start}"
    return OtherImages(lambda: changes_since(run, images), advice)


def image_content(images: ImageData) -> dict[str, Any]:
    """Number and digest of the images and labels of each split, as plain data."""
    splits = {"train": images.train, "validation": images.validation}
    return {name: {key: split.description[key] for key in ("count", "digest")} for name, split in splits.items()}


def image_settings(settings: Settings) -> dict[str, Any]:
    """The keys of ``settings["data"]`` that change the images."""
    data: Mapping[str, Any] = {**settings["data"], **absolute_paths(settings["data"])}
    return {key: value for key, value in data.items() if key not in WITHOUT_EFFECT}


def describe_images(images: ImageData) -> dict[str, Any]:
    """What the folder of a model says of the images that it was trained on, as plain data."""
    return {"train": images.train.description, "class_names": list(images.class_names)}


def check_batch_size(stage: str, batch_size: int, images: int, copies: int = 1) -> None:
    """Raises ValueError if a stage's batch is larger than its training set.

    Args:
        stage: ``stage1`` or ``stage2``.
        batch_size: Of that stage.
        images: Number of training images.
        copies: Of each image.
    """
    if batch_size > images * copies:
        times = f" × codes.copies={copies}" if copies > 1 else ""
        raise ValueError(
            f"{stage}.batch_size={batch_size} is more than the {images} training images{times}: "
            f"set {stage}.batch_size={images * copies} or less"
        )
