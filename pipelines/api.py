"""Train and measure from Python: images in memory or on disk, to a generator. What the commands run, these run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.left_as_found import left_as_found
from pipelines.config.compose import Asked, Given, composed_settings
from pipelines.config.settings import Settings
from pipelines.generator import Generator
from pipelines.inputs.numbers import whole_number
from pipelines.inputs.paths import path_of
from pipelines.inputs.stored_images import data_keys
from pipelines.publishing.hub import is_on_hub
from stage1_vqvae.files import read_json
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store.store import CodeStore

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def training_settings(
    images: Any = None,
    labels: Any = None,
    *,
    output: str | Path,
    experiment: str | None = None,
    validation: Any = None,
    seed: int | None = None,
    settings: Given = None,
) -> Settings:
    """Settings of a training command.

    Args:
        images: A folder, a ``.parquet``, ``.npy`` or ``.npz`` file; an array or tensor ``[N, H, W, C]``,
            ``[N, C, H, W]`` or ``[N, H, W]`` of uint8 or of floats in [0, 1]; a sequence of paths or PIL images; a data
            set of torch or Hugging Face. None for the data of ``experiment`` or of ``settings``. Images in memory are
            kept in ``output/data``, so that every later command finds them; they are known by their content, and a
            folder that was trained on others refuses them.
        labels: One for each image, integers or texts; None for those of a folder or data set, if it has any.
        output: The run's folder.
        experiment: A recipe, a file of ``conf/experiment``.
        validation: Images to hold back, in any form of ``images``, or a pair of these and their labels; a fraction of
            the training images; None for the recipe's fraction.
        seed: Of everything that is random; None for that of ``settings``, which is 0 unless it is given.
        settings: The command's keys and values, ``{"stage1.trainer.max_steps": 500, "stage2": "transformer_small"}``
            with nested mappings where wanted; or a list of overrides, ``["stage2=transformer_small"]``; or a
            configuration that Hydra's ``compose("config")`` returned.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    asked, folder = Asked.of(settings), path_of(output, "output")
    fixed: dict[str, Any] = {"output": str(folder)}
    defaults: dict[str, Any] = {"logger": "csv"}
    if seed is not None:
        fixed["seed"] = whole_number(seed, "seed", 0, 2**32 - 1)
    if experiment is not None:
        if asked.config is not None:
            raise ValueError(f"experiment={experiment}: compose the configuration with it, or leave one of them out")
        fixed["experiment"] = experiment
    if asked.config is not None and asked.config.get("budget") is not None:
        raise ValueError("budget: give settings as keys and values, not a configuration in which nothing is left open")
    if images is not None:
        size, channels = asked.value("data.image_size"), asked.value("data.channels")
        for key, value in data_keys(images, labels, validation, folder / "data", size, channels).items():
            (defaults if key in ("data.image_size", "data.channels") else fixed)[key] = value
    elif labels is not None or validation is not None:
        raise ValueError("labels and validation go with images: give these too")
    return composed_settings("config", asked, fixed, defaults)


def model_settings(
    command: str,
    model: str | Path,
    settings: Given,
    more: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings of a command on a finished run.

    Args:
        command: Its name.
        model: The run's folder.
        settings: Of the caller.
        more: Keys that an argument of the caller's function gives.
        defaults: Keys and values that the caller may replace.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    named = model if is_on_hub(model) else path_of(model, "model").absolute()
    return composed_settings(command, Asked.of(settings), {"model": str(named), **(more or {})}, defaults)


def called_with(
    compose: Callable[Arguments, Settings],
) -> Callable[[Callable[[Settings], Result]], Callable[Arguments, Result]]:
    """Make a function of settings one of the arguments that these are composed of."""

    def decorate(step: Callable[[Settings], Result]) -> Callable[Arguments, Result]:
        @wraps(step)
        def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            return step(compose(*arguments, **named))

        returned = signature(step).return_annotation
        call.__signature__ = signature(compose).replace(return_annotation=returned)  # type: ignore[attr-defined]
        arguments_of = (compose.__doc__ or "").partition("Args:")[2]
        call.__doc__ = f"{step.__doc__}\n    Args:{arguments_of}"
        return call

    return decorate


@called_with(training_settings)
def train(settings: Settings) -> Generator:
    """Train tokenizer and prior and draw samples, as ``python -m pipelines.run`` does; return the generator.

    The same call again goes on where it was, after an interruption too, and finds done what is done. An interruption
    raises KeyboardInterrupt at the end of the step.
    """
    run_steps("pipelines.tasks.run:run", settings)
    return Generator.load(settings["output"], trust=settings["trust"])


@called_with(training_settings)
def train_tokenizer(settings: Settings) -> Tokenizer:
    """Stage one alone, as ``python -m pipelines.train_stage1``."""
    run_steps("pipelines.tasks.train_stage1:train_stage1", settings)
    return load_tokenizer(RunFolder(Path(settings["output"])).tokenizer, settings["trust"])[0]


@called_with(training_settings)
def extract_codes(settings: Settings) -> CodeStore:
    """Codes of the training images by the run's tokenizer, as ``python -m pipelines.extract_codes``."""
    run_steps("pipelines.tasks.extract_codes:extract_codes", settings)
    return CodeStore.open(RunFolder(Path(settings["output"])).codes("train"))


@called_with(training_settings)
def train_prior(settings: Settings) -> Generator:
    """Stage two alone, on codes that are extracted, as ``python -m pipelines.train_stage2``."""
    run_steps("pipelines.tasks.train_stage2:train_stage2", settings)
    return Generator.load(settings["output"], trust=settings["trust"])


def train_decoder(model: str | Path, *, output: str | Path, settings: Given = None) -> Tokenizer:
    """Train a run's decoder further into a run of its own, as ``python -m pipelines.train_decoder``.

    The new run has the codes and the prior of the other, which stays as it is; ``Generator.load(output)`` loads it.

    Args:
        model: The run's folder, or ``hf://user/name`` for a model of the hub.
        output: The new run's folder.
        settings: The command's keys and values, ``{"stage1/training": "adversarial", "noise": 0.1}`` say, or as for
            :func:`train`.

    Returns:
        The tokenizer with the new decoder.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    fixed, defaults = {"output": str(path_of(output, "output"))}, {"logger": "csv"}
    asked = model_settings("train_decoder", model, settings, fixed, defaults)
    run_steps("pipelines.tasks.train_decoder:train_decoder", asked)
    return load_tokenizer(RunFolder(Path(asked["output"])).tokenizer, asked["trust"])[0]


def evaluate(model: str | Path, *, settings: Given = None) -> dict[str, Any]:
    """Measure a run on held-out images, and samples that are drawn for it, as ``python -m pipelines.evaluate``.

    Args:
        model: The run's folder, or ``hf://user/name`` for a model of the hub.
        settings: The command's keys and values, ``{"n": 500}`` say, or as for :func:`train`.

    Returns:
        Metrics by section, as ``evaluation.json`` holds them.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    return read_json(run_steps("pipelines.tasks.evaluate:evaluate", model_settings("evaluate", model, settings)))


def reconstruct(model: str | Path, *, settings: Given = None) -> dict[str, float]:
    """Measure a run's tokenizer on held-out images and draw some, as ``python -m pipelines.reconstruct``.

    Args:
        model: The run's folder, or ``hf://user/name`` for a model of the hub.
        settings: As for :func:`evaluate`.

    Returns:
        The metrics of reconstructions and codes; the picture is in the folder ``reconstructions`` of the run.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    return read_json(
        run_steps("pipelines.tasks.reconstruct:reconstruct", model_settings("reconstruct", model, settings))
    )


def complete(model: str | Path, images: str | Path, *, settings: Given = None) -> Path:
    """Keep a part of each image and draw the rest, as ``python -m pipelines.complete``.

    :meth:`Generator.complete` does so for codes in memory.

    Args:
        model: The run's folder.
        images: An image's file, or a folder of images.
        settings: As for :func:`evaluate`, ``{"keep": "left", "n": 2}`` say.

    Returns:
        The folder of ``grid.png`` and ``images.npz``.

    Raises:
        ValueError: If anything does not fit; the message is the one line that the command would print.
    """
    fixed = {"images": str(path_of(images, "images").absolute())}
    return run_steps("pipelines.tasks.complete:complete_command", model_settings("complete", model, settings, fixed))


def run_steps(task: str, settings: Settings) -> Any:
    """Run what a command runs; the process is left as it was found.

    Args:
        task: ``module:function`` of the command.
        settings: Of :func:`~pipelines.config.compose.composed_settings`.

    Returns:
        What the task returns.

    Raises:
        ValueError: If anything does not fit.
        KeyboardInterrupt: If it was interrupted.
    """
    from pipelines.cli.process import run_task  # imports what trains, which a generator does not need

    with left_as_found(), suppress(SystemExit):
        return run_task(task, {**settings, "command": task.partition(":")[2]})
    # Out here: a notebook keeps the last error, which would keep the frames of the training, and its memory.
    raise KeyboardInterrupt("stopped: the same call goes on from here")
