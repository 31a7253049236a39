"""``data_variance``: measured from the training images, kept with the run, and older runs keep theirs."""

import shutil

import numpy as np
import pytest

from pipelines.artifacts.run_folder import RunFolder
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.training.images import open_images
from pipelines.training.variance import with_variance
from stage1_vqvae.files import read_yaml, write_yaml
from tests.support.tiny import TINY, compose


def variance_of(settings):
    return settings["stage1"]["objective"]["data_variance"]


@pytest.fixture
def copied(tiny_run, tmp_path):
    return RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))


def test_the_runs_settings_hold_what_the_training_images_have(copied):
    images = open_images(compose(*TINY)).train
    pixels = images.__getitems__(list(range(len(images))))["images"].numpy() / 127.5 - 1
    for path in (copied.tokenizer, copied.checkpoints("stage1")):
        assert variance_of(read_yaml(path / "settings.yaml")) == pytest.approx(np.var(pixels), rel=1e-3)


def test_an_older_run_keeps_its_own(copied, capsys):
    path = copied.tokenizer / "settings.yaml"
    for kept in (path, copied.checkpoints("stage1") / "settings.yaml"):
        settings = read_yaml(kept)
        settings["stage1"]["objective"]["data_variance"] = 1.0
        write_yaml(kept, settings)
    asked = compose(*TINY, f"output={copied.path}")
    assert variance_of(with_variance(asked, copied)) == 1.0
    train_stage1(asked)
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"data_variance: 1.0, now 0.5"):
        train_stage1(compose(*TINY, f"output={copied.path}", "stage1.objective.data_variance=0.5"))


def test_settings_that_made_nothing_bind_nobody(copied):
    shutil.rmtree(copied.checkpoints("stage1"))
    (copied.tokenizer / "config.yaml").unlink()
    assert variance_of(with_variance(compose(*TINY), copied)) is None


def test_what_is_given_is_used(copied):
    asked = compose(*TINY, "stage1.objective.data_variance=0.5")
    assert with_variance(asked, copied) == asked
    other = compose(*TINY, "stage1/objective=absolute_error")
    assert with_variance(other, copied) == other


def test_terms_of_a_sum_have_it_too(tmp_path):
    pixels = "stage1/objective@stage1.objective.terms.pixels"
    asked = compose(*TINY, "stage1/objective=perceptual", f"{pixels}=squared_error")
    images = open_images(asked)
    found = with_variance(asked, RunFolder(tmp_path), images)["stage1"]["objective"]["terms"]["pixels"]
    assert found["data_variance"] == pytest.approx(images.train.variance, rel=1e-3)
