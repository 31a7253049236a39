"""Every recipe runs from images to samples: its parts, losses, callbacks and schedules, at a size of seconds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts.run_folder import RunFolder
from pipelines.tasks.run import run
from stage1_vqvae.networks import lite0
from tests.support.tiny import compose

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(
    path.stem for path in (CONF / "experiment").glob("[!_]*.yaml") if not path.stem.startswith("collapse_")
)
SIDE = {"vqgan256": 32, "mnist5k": 28, "mnist5k_pixelcnn": 28, "mnist5k_vqvae2": 28}
"""Pixels of a side where 16 do not go with the recipe's factor."""
FILES = ["data=folder", "data.files=x"]


def small(name, folder):
    """A recipe on 24 images, its widths, depths and steps as small as they go; all else as it is."""
    whole = compose(f"experiment={name}", *FILES)
    stage1, stage2 = whole["stage1"], whole["stage2"]
    side = SIDE.get(name, 16)
    words = [f"experiment={name}", *FILES, f"data.files={folder}/images", "data.validation=0.3"]
    words += ["~data.name"] if "name" in whole["data"] else []  # of a set on the hub
    words += ["data.class_folders=true", f"data.image_size=[{side},{side}]", f"output={folder}/run", "logger=csv"]
    words += ["hardware=cpu", "hardware.precision=bf16-mixed", "hardware.channels_last=true", "n=4", "codes.copies=1"]
    smaller = {"width": 8, "residual_width": 4, "layers": 1, "heads": 2, "coarse_blocks": 1, "kernel": 3}
    for stage, settings in (("stage1", stage1), ("stage2", stage2)):
        words += [f"{stage}.model.{key}={value}" for key, value in smaller.items() if key in settings["model"]]
        words += [f"{stage}.batch_size=4"]
        words += [f"{stage}.trainer.{key}=2" for key in ("max_steps", "validate_every", "checkpoint_every")]
    if "multipliers" in stage1["model"]:
        words += ["stage1.model.width=32", "stage1.model.layers=1"]
    if "attention_every" in stage2["model"]:
        words += ["stage2.model.attention_every=1"]
    if "discriminator" in stage1:
        words += ["stage1.discriminator.width=4", "stage1.discriminator.layers=2"]
        words += ["stage1.training.adversary.onset=1", "stage1.training.adversary.ramp=1"]
    return compose(*words)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_to_its_samples(name, tmp_path):
    if "perceptual" in str(compose(f"experiment={name}", *FILES)["stage1"]["objective"]):
        pytest.importorskip(lite0.PACKAGES[0])
    random = np.random.default_rng(0)
    for label in ("one", "other"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    settings = small(name, tmp_path)
    run(settings)
    finished = RunFolder(tmp_path / "run")
    channels = settings["data"]["channels"]
    with Image.open(finished.samples / "grid.png") as grid:
        assert grid.mode == {1: "L", 3: "RGB"}[channels]
