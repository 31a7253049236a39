import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.generator import Generator
from pipelines.tasks import evaluate as module
from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.train_stage1 import train_stage1
from stage1_vqvae.files import read_json
from tests.support.distributed import on_two_ranks
from tests.support.tiny import TINY, compose

SMALL = ["n=16", "batch_size=16", "network.steps=2", "network.width=4"]


@pytest.fixture(scope="module")
def folder(tiny_run, tmp_path_factory):
    """A copy of the tiny run that is evaluated."""
    copied = tmp_path_factory.mktemp("evaluate") / "tiny"
    shutil.copytree(tiny_run, copied)
    return copied


def settings_of(folder, *words):
    return compose(f"model={folder}", *SMALL, *words, command="evaluate")


@pytest.fixture(scope="module")
def evaluated(folder):
    evaluate(settings_of(folder))
    return folder / "evaluation" / "n16_seed0"


def test_what_is_written(evaluated, folder):
    found = read_json(evaluated / "evaluation.json")
    assert {"mse", "psnr", "ssim", "frechet_distance_own_features"} <= set(found["reconstruction"])
    assert {"precision_own_features", "recall_own_features", "class_agreement"} <= set(found["samples"])
    assert set(found["training_images"]) < set(found["samples"])
    for section in ("reconstruction", "samples", "training_images"):
        assert {"lite0_frechet", "lite0_kid_low"} <= set(found[section])
    assert 0 <= found["copies"]["near_in_codes"] <= 1
    assert (evaluated / "copies.png").exists()
    assert "Copies of training images?" in (folder / "report.html").read_text()
    trained = read_json(folder / "tokenizer" / "metrics.json") | read_json(folder / "prior" / "metrics.json")
    measured = found["reconstruction"] | found["codes"] | found["likelihood"]
    for name in ("mse", "psnr", "ssim", "usage", "perplexity"):
        assert measured[name] == pytest.approx(trained[name], rel=1e-3), name
    assert measured["nats_per_code"] == pytest.approx(trained["nats"], rel=1e-3)
    assert found["reading"].startswith("The codes ")
    assert any("no likelihood" in remark for remark in found["remarks"])
    assert any("not FID" in remark for remark in found["remarks"])
    assert not any(
        name in section for section in found.values() if isinstance(section, dict) for name in ("fid", "rfid")
    )
    report = (folder / "report.html").read_text()
    assert "Evaluation" in report
    assert found["reading"].split(";")[0].split(":")[0] in report


def never(*_):
    raise AssertionError("measured again")


def test_what_is_measured_is_not_measured_again(evaluated, folder, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in evaluated.rglob("*") if path.is_file()}
    measures = [name for name in vars(module) if re.match("measure_", name)]
    assert len(measures) == 5
    for name in measures:
        monkeypatch.setattr(module, name, never)
    evaluate(settings_of(folder))
    assert {path: path.read_bytes() for path in evaluated.rglob("*") if path.is_file()} == before
    assert "class_agreement" in capsys.readouterr().out


def test_goes_on_after_a_kill(evaluated, folder, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(module, "measure_samples", die)
        with pytest.raises(KeyboardInterrupt):
            evaluate(settings_of(folder, f"output={tmp_path / 'made'}"))
    monkeypatch.setattr(module, "measure_tokenizer", never)
    evaluate(settings_of(folder, f"output={tmp_path / 'made'}"))
    assert read_json(tmp_path / "made" / "evaluation.json") == read_json(evaluated / "evaluation.json")


def test_other_settings_lie_elsewhere_or_are_refused(evaluated, folder):
    with pytest.raises(ValueError, match="set of metrics of other settings"):
        evaluate(settings_of(folder, "network.steps=3"))
    other = settings_of(folder, "guidance=1.0", "n=0")
    evaluate(other)
    assert (folder / "evaluation" / "n0_seed0_guidance1.0" / "evaluation.json").exists()


def _evaluate(rank, settings):
    torch.set_num_threads(1)
    evaluate(settings)
    return rank


def test_evaluations_of_the_same_images_share_the_network_that_makes_features(evaluated, folder, monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.features.train", None)
    evaluate(settings_of(folder, "n=0", "guidance=3.0"))
    with pytest.raises(TypeError, match="NoneType"):  # other networks are trained
        evaluate(settings_of(folder, "n=0", "guidance=3.0", "network.steps=3", f"output={evaluated.parent / 'other'}"))


@pytest.mark.slow
def test_two_processes_find_what_one_finds(evaluated, folder, tmp_path):
    assert on_two_ranks(_evaluate, settings_of(folder, f"output={tmp_path / 'made'}")) == [0, 1]
    alone, shared = (read_json(path / "evaluation.json") for path in (evaluated, tmp_path / "made"))
    for section, metrics in alone.items():
        if isinstance(metrics, dict):
            assert shared[section] == pytest.approx(metrics, rel=1e-3, abs=1e-5), section


@pytest.mark.parametrize("likelihood", ["discretized_logistic", "gaussian"])
def test_a_tokenizer_with_a_likelihood_and_no_prior(tmp_path, likelihood):
    words = [*TINY, f"stage1/likelihood={likelihood}", "stage1.likelihood.mixture=2", f"output={tmp_path}"]
    train_stage1(compose(*words))
    evaluate(settings_of(tmp_path))
    found = read_json(tmp_path / "evaluation" / "n16_seed0" / "evaluation.json")
    likelihood = found["likelihood"]
    # 16 codes of log2(16) bits for 784 sub-pixels
    gap = likelihood["bits_per_dim_with_uniform"] - likelihood["bits_per_dim_of_pixels"]
    assert gap == pytest.approx(16 * 4 / 784)
    assert "samples" not in found
    assert any("no trained prior" in remark for remark in found["remarks"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["n=-1"], "n is at least 0, got -1"),
        (["n=1"], "n: two samples at least can be compared with images, or 0 for none, got 1"),
        (["batch_size=0"], "batch_size is at least 1, got 0"),
        (["label=11"], "label=11: classes are 0 to 9"),
    ],
)
def test_mistakes_are_named_before_any_work(folder, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        evaluate(settings_of(folder, f"output={tmp_path / 'made'}", *words))
    assert not (tmp_path / "made").exists()


def test_samples_have_the_classes_of_the_training_images(folder, tmp_path, monkeypatch):
    """Where these are not even: else the distance would be that of another mixture of classes."""
    load = Generator.load
    monkeypatch.setattr(
        Generator, "load", lambda *words: replace(load(*words), class_counts=(600, 0, 200, *[50] * 6, 0))
    )
    output = tmp_path / "made"
    evaluate(settings_of(folder, f"output={output}", "n=22"))
    labels = np.load(output / "samples" / "images.npz")["labels"]
    assert np.bincount(labels, minlength=10).tolist() == [12, 0, 4, 1, 1, 1, 1, 1, 1, 0]


def test_without_the_network_there_are_no_distances_in_its_features_and_it_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda: False)
    evaluate(settings_of(folder, f"output={tmp_path / 'made'}"))
    found = read_json(tmp_path / "made" / "evaluation.json")
    assert "copies" not in found
    assert not any(name.startswith("lite0") for section in ("reconstruction", "samples") for name in found[section])
    assert any("pip install 'vqvae-prior[lite0]'" in remark for remark in found["remarks"])
    monkeypatch.undo()
    evaluate(settings_of(folder, f"output={tmp_path / 'made'}"))  # as the remark says
    assert "copies" in read_json(tmp_path / "made" / "evaluation.json")
