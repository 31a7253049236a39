"""The variance of the training images, which the squared error is divided by: measured once, then the run's own."""

from __future__ import annotations

from typing import Any

from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.claims import SETTINGS
from pipelines.config.settings import Settings
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_yaml

KEY = "data_variance"


def with_variance(settings: Settings, run: RunFolder, images: ImageData | None = None) -> Settings:
    """Settings in which ``stage1.objective.data_variance``, where it is null, has its value.

    That is the value in the settings that the run's tokenizer was begun with, or else what the training images have,
    with four digits, as other versions of image decoders differ in the last ones.

    Args:
        settings: Of the command.
        run: Where the tokenizer is or will be.
        images: Measured where the run has no value; without them the key stays null.
    """
    objective = settings["stage1"]["objective"]
    if objective.get(KEY, 1.0) is not None:
        return settings
    kept = _kept(run)
    if kept is None and images is not None:
        kept = float(f"{images.train.variance:.4g}")
    return {**settings, "stage1": {**settings["stage1"], "objective": {**objective, KEY: kept}}}


def _kept(run: RunFolder) -> Any:
    checkpoints = run.checkpoints("stage1")
    if not finished(run.tokenizer) and not any(checkpoints.glob("step-*.ckpt")):
        return None  # settings that have made nothing bind nobody
    for path in (run.tokenizer / SETTINGS, checkpoints / SETTINGS):
        if path.exists():
            return read_yaml(path)["stage1"]["objective"].get(KEY)
    return None
