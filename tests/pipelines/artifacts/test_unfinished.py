"""A prior is sampled from while it trains."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.generator import Generator
from pipelines.tasks.sample import sample_command, say_guidance
from pipelines.training.checkpoint_files import load_checkpoint
from stage2_prior.sampling.settings import SamplingSettings
from tests.support.tiny import compose


@pytest.fixture
def training(tiny_run, tmp_path):
    """A run whose prior is at step 6 of its training."""
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(folder / "prior")
    shutil.rmtree(folder / "samples")
    return folder


def test_the_newest_whole_checkpoint_is_sampled_from(training, capsys):
    checkpoints = training / "checkpoints" / "stage2"
    generator = Generator.load(training, "cpu")
    assert generator.step == 6
    assert "still trains: its averaged weights of step 6 are taken" in capsys.readouterr().out.replace("\n", " ")
    held = load_checkpoint(checkpoints / "step-00000006.ckpt")["state_dict"]
    for name, value in generator.prior.state_dict().items():
        assert torch.equal(value, held[f"model.{name}"]), name

    sample_command(compose(f"model={training}", "n=2", command="sample"))
    with np.load(training / "samples-of-step-6" / "n2_seed0" / "images.npz") as made:
        assert made["images"].shape == (2, 28, 28, 1)
    assert not (training / "samples").exists()

    newest = checkpoints / "step-00000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:-9])
    assert Generator.load(training, "cpu").step == 4


def test_a_run_without_any_prior_is_told_to_train_it(training):
    shutil.rmtree(training / "checkpoints")
    with pytest.raises(ValueError, match="holds no finished prior"):
        Generator.load(training, "cpu")


@pytest.mark.parametrize(
    ("classes", "asked", "said"), [(0, {"guidance": 2.0}, True), (0, {}, False), (3, {"guidance": 2.0}, False)]
)
def test_guidance_of_a_prior_without_classes_is_said(classes, asked, said, capsys):
    prior = SimpleNamespace(num_classes=classes)
    say_guidance(SimpleNamespace(prior=prior, settings_with=lambda **given: SamplingSettings(**given)), asked)
    assert ("guidance=2 changes nothing" in capsys.readouterr().out) == said
