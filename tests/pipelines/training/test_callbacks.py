"""Classes of a user's own plug in by ``_target_``: data set, quantizer, prior, callback."""

import shutil
import sys

import pytest

from pipelines.artifacts.run_folder import RunFolder
from pipelines.run import main
from pipelines.training.callbacks import callback_settings, callbacks
from tests.support.tiny import TINY, compose


@pytest.mark.slow
def test_a_run_of_classes_of_ones_own(monkeypatch, tmp_path):
    """As the README says: a folder of options that name them, and ``trust``."""
    monkeypatch.chdir(tmp_path)
    options = {
        "stage1/quantizer/half.yaml": "_target_: tests.support.own_classes.HalfCommitted\ndim: 4\ncodebook_size: 16\n",
        "data/negative.yaml": "defaults:\n  - mnist5k\n_target_: tests.support.own_classes.NegativeDigits\n",
    }
    for name, text in options.items():
        (tmp_path / "my_conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my_conf" / name).write_text(text)
    own = ["hydra.searchpath=[file://my_conf]", "stage1/quantizer=half", "data=negative", "trust=[tests]"]
    own += ["stage2.model._target_=tests.support.own_classes.WideTransformer", "output=own"]
    own += [f"callbacks.stage1=[{{_target_:tests.support.own_classes.CountSteps,file:{tmp_path / 'steps'}}}]"]
    tiny = [word for word in TINY if not word.startswith("experiment=")]
    monkeypatch.setattr(sys, "argv", ["run", *tiny, "stage2=transformer_small", *own])
    main()
    folder = RunFolder(tmp_path / "own")
    assert "tests.support.own_classes.HalfCommitted" in (folder.tokenizer / "config.yaml").read_text()
    assert "tests.support.own_classes.WideTransformer" in (folder.prior / "config.yaml").read_text()
    assert "tests.support.own_classes.CountSteps" in (folder.tokenizer / "settings.yaml").read_text()
    assert (folder.samples / "grid.png").exists()
    assert float((tmp_path / "steps").read_text()) == 6
    shutil.rmtree(folder.path)


def test_callbacks_are_lightnings():
    settings = {"trust": ["tests"], "callbacks": {"stage1": [{"_target_": "tests.support.own_classes.NoCallback"}]}}
    with pytest.raises(
        ValueError, match=r"callbacks.stage1\[0\]: a pytorch_lightning.Callback expected, got NoCallback"
    ):
        callbacks(settings, "stage1")
    assert callbacks(settings, "stage2") == []


def test_without_trust_none_is_built():
    settings = compose("callbacks.stage2=[{_target_:tests.support.own_classes.Fail}]")
    with pytest.raises(ValueError, match=r"callbacks.stage2\[0\]._target_: .* outside of this project"):
        callbacks(settings, "stage2")


def test_a_model_depends_on_callbacks_where_there_are_any():
    assert callback_settings(compose(), "stage1") == {}
    assert callback_settings({"trust": []}, "stage1") == {}
    node = {"_target_": "mypackage.Mine"}
    assert callback_settings({"callbacks": {"stage1": [node]}, "trust": []}, "stage1") == {"callbacks": [node]}


def test_a_model_does_not_depend_on_a_callback_that_only_logs():
    logs, counts = ({"_target_": f"tests.support.own_classes.{name}"} for name in ("LogLearningRate", "CountSteps"))
    settings = {"callbacks": {"stage1": [logs, counts], "stage2": [logs]}, "trust": ["tests"]}
    assert callback_settings(settings, "stage1") == {"callbacks": [counts]}
    assert callback_settings(settings, "stage2") == {}
