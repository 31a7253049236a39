"""The variance of the training images, which the squared error is divided by: measured once, then the run's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.claims import SETTINGS
from pipelines.config.settings import Settings
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_yaml

KEY = "data_variance"


def with_variance(settings: Settings, run: RunFolder, images: ImageData | None = None) -> Settings:
    """Settings in which ``data_variance``, where ``stage1.objective`` has it as null, has its value.

    That is the value in the settings that the run's tokenizer was begun with, or else what the training images have,
    with four digits, as other versions of image decoders differ in the last ones.

    Args:
        settings: Of the command.
        run: Where the tokenizer is or will be.
        images: Measured where the run has no value; without them the key stays null.
    """
    stage = settings["stage1"]
    measured = None if images is None else float(f"{images.train.variance:.4g}")
    return {**settings, "stage1": {**stage, "objective": _filled(stage["objective"], _kept(run), measured)}}


def _filled(node: Any, kept: Any, measured: float | None) -> Any:
    """An objective, and those that it is made of, with the values that are kept at the same places, or the measured."""
    if not isinstance(node, Mapping):
        return node
    kept = kept if isinstance(kept, Mapping) else {}
    filled = {key: _filled(value, kept.get(key), measured) for key, value in node.items()}
    if KEY in node and node[KEY] is None:
        filled[KEY] = measured if kept.get(KEY) is None else kept[KEY]
    return filled


def _kept(run: RunFolder) -> Any:
    """The objective of the settings that the run's tokenizer was begun with."""
    checkpoints = run.checkpoints("stage1")
    if not finished(run.tokenizer) and not any(checkpoints.glob("step-*.ckpt")):
        return None  # settings that have made nothing bind nobody
    for path in (run.tokenizer / SETTINGS, checkpoints / SETTINGS):
        if path.exists():
            return read_yaml(path).get("stage1", {}).get("objective")  # none of a tokenizer that was taken
    return None
