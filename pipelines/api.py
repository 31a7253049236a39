"""Train from Python: images in memory or on disk, to a generator. What the commands run, these functions run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.left_as_found import left_as_found
from pipelines.config.compose import composed_settings
from pipelines.config.settings import Settings
from pipelines.generator import Generator
from pipelines.inputs.numbers import whole_number
from pipelines.inputs.training_images import LabelledArray, training_images, training_source
from stage1_vqvae.files import read_json, replacing
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store.store import CodeStore


def train(
    images: Any = None,
    labels: Any = None,
    *,
    output: str | Path,
    experiment: str | None = None,
    validation: Any = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Generator:
    """Train tokenizer and prior and draw samples, as ``python -m pipelines.run`` does; return the generator.

    The same call again goes on where it was, after an interruption too, and finds done what is done. Images in memory
    are kept in ``output/data``, so that every later command finds them; they are known by their content, and a folder
    that was trained on others refuses them.

    Args:
        images: A folder, a ``.parquet``, ``.npy`` or ``.npz`` file; an array or tensor ``[N, H, W, C]``,
            ``[N, C, H, W]`` or ``[N, H, W]`` of uint8 or of floats in [0, 1]; a sequence of paths or PIL images; a data
            set of torch or Hugging Face. None for the data of ``experiment`` or of ``settings``.
        labels: One for each image, integers or texts; None for those of a folder or data set, if it has any.
        output: The run's folder.
        experiment: A recipe, a file of ``conf/experiment``.
        validation: Images to hold back, in any form of ``images``, or a pair of these and their labels; a fraction of
            the training images; None for the recipe's fraction.
        seed: Of everything that is random.
        settings: The command's keys and values: ``{"stage1.trainer.max_steps": 500, "stage2": "transformer_small"}``,
            with nested mappings where wanted.

    Returns:
        The generator of the finished run.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
        KeyboardInterrupt: If it was interrupted; the same call goes on.
    """
    settings = training_settings(images, labels, validation, output, experiment, seed, settings)
    run_steps("pipelines.tasks.run:run", settings)
    return Generator.load(settings["output"], trust=settings["trust"])


def train_tokenizer(
    images: Any = None,
    labels: Any = None,
    *,
    output: str | Path,
    experiment: str | None = None,
    validation: Any = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """Stage one alone, as ``python -m pipelines.train_stage1``; arguments and errors as for :func:`train`."""
    settings = training_settings(images, labels, validation, output, experiment, seed, settings)
    run_steps("pipelines.tasks.train_stage1:train_stage1", settings)
    return load_tokenizer(RunFolder(Path(settings["output"])).tokenizer, settings["trust"])[0]


def extract_codes(
    images: Any = None,
    labels: Any = None,
    *,
    output: str | Path,
    experiment: str | None = None,
    validation: Any = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> CodeStore:
    """Codes of the training images by the run's tokenizer, as ``python -m pipelines.extract_codes``.

    Arguments and errors are those of :func:`train`.
    """
    settings = training_settings(images, labels, validation, output, experiment, seed, settings)
    run_steps("pipelines.tasks.extract_codes:extract_codes", settings)
    return CodeStore.open(RunFolder(Path(settings["output"])).codes("train"))


def train_prior(
    images: Any = None,
    labels: Any = None,
    *,
    output: str | Path,
    experiment: str | None = None,
    validation: Any = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Generator:
    """Stage two alone, on codes that are extracted, as ``python -m pipelines.train_stage2``.

    Arguments and errors are those of :func:`train`.
    """
    settings = training_settings(images, labels, validation, output, experiment, seed, settings)
    run_steps("pipelines.tasks.train_stage2:train_stage2", settings)
    return Generator.load(settings["output"], trust=settings["trust"])


def evaluate(model: str | Path, *, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure a run on held-out images, and samples that are drawn for it, as ``python -m pipelines.evaluate``.

    Args:
        model: The run's folder.
        settings: The command's keys and values, ``{"n": 500}`` say.

    Returns:
        Metrics by section, as ``evaluation.json`` holds them.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    folder = Path(model).expanduser().absolute()
    asked = composed_settings("evaluate", {**(settings or {}), "model": str(folder)})
    before = written(folder)
    run_steps("pipelines.tasks.evaluate:evaluate", asked)
    changed = [path for path, time in written(folder).items() if before.get(path) != time]
    return read_json(changed[0])


def written(model: Path) -> dict[Path, int]:
    """The evaluations of a run, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (model / "evaluation").glob("*/evaluation.json")}


def training_settings(
    images: Any,
    labels: Any,
    validation: Any,
    output: str | Path,
    experiment: str | None,
    seed: int,
    settings: Mapping[str, Any] | None,
) -> Settings:
    """Settings of a training command for what :func:`train` was given.

    Raises:
        ValueError: If anything does not fit.
    """
    given: dict[str, Any] = {"logger": "csv", **({"experiment": experiment} if experiment else {}), **(settings or {})}
    given |= {"output": str(output), "seed": whole_number(seed, "seed", 0, 2**32 - 1)}
    if images is not None:
        given = {**given_data(images, labels, validation, Path(output).expanduser(), given), **given}
    elif labels is not None or validation is not None:
        raise ValueError("labels and validation go with images: give these too")
    return composed_settings("config", given)


def run_steps(task: str, settings: Settings) -> None:
    """Run what a command runs; the process is left as it was found.

    Args:
        task: ``module:function`` of the command.
        settings: Of :func:`~pipelines.config.compose.composed_settings`.

    Raises:
        ValueError: If anything does not fit.
        KeyboardInterrupt: If it was interrupted.
    """
    from pipelines.cli.process import run_task  # imports what trains, which a generator does not need

    with left_as_found():
        try:
            run_task(task, settings)
        except SystemExit as stopped:
            raise KeyboardInterrupt("stopped: the same call goes on from here") from stopped


def given_data(images: Any, labels: Any, validation: Any, output: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of ``data`` for the images: of the user's own files, or of a file of arrays in the run's folder."""
    if isinstance(images, str | Path):
        if labels is not None:
            raise ValueError("labels: a folder or file has its own, leave them out, or give images in memory")
        return {**training_source(images), **_fraction(validation)}
    size, channels = given.get("data.image_size"), given.get("data.channels")
    shape = (tuple(size) if size else None, channels)
    train_set = training_images(images, labels, *shape)
    fitted = (tuple(train_set.images.shape[1:3]), train_set.images.shape[3])
    arrays = _arrays("train", train_set)
    if validation is not None and not isinstance(validation, int | float):
        held, held_labels = validation if isinstance(validation, tuple) and len(validation) == 2 else (validation, None)
        arrays |= _arrays("validation", training_images(held, held_labels, *fitted))
    data: dict[str, Any] = {"data": "numpy", "data.files": str(stored(arrays, output / "data").absolute())}
    data |= {"data.image_size": list(fitted[0]), "data.channels": fitted[1], **_fraction(validation)}
    return data


def _fraction(validation: Any) -> dict[str, Any]:
    return {"data.validation": validation} if isinstance(validation, int | float) else {}


def _arrays(split: str, found: LabelledArray) -> dict[str, np.ndarray[Any, Any]]:
    labels = {} if found.labels is None else {f"{split}_labels": found.labels}
    return {f"{split}_images": found.images, **labels}


def stored(arrays: Mapping[str, np.ndarray[Any, Any]], folder: Path) -> Path:
    """A file of the arrays, named after their content; the same arrays are the same file, written once."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"images-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    return path
