"""What is the user's mistake ends a command in one line that names the thing; nothing is written."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from pipelines.command import plain
from tests.tiny import TINY


@pytest.fixture
def error(monkeypatch, capfd, tmp_path):
    """What a command that fails says."""

    def run(command, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [command, *words])
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(f"pipelines.{command}").main()
        said = str(stopped.value.code)
        assert "Traceback" not in said
        return said

    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage1.model.hiddn=8", "stage1.model.hiddn: no such key; did you mean hidden?"),
        ("+stage1.model.hiddn=8", "stage1.model.hiddn: no such key; did you mean hidden?"),
        ("stage1.quantizer.dim=abc", "stage1.model.quantizer.dim: int expected, got 'abc'"),
        ("stage1.quantizer.decay=2", "stage1.model.quantizer: decay is in [0, 1), got 2"),
        ("stage1.model.margin=1", "image_size 30×30 (margin included) is not divisible by factor 8: 32×32 would work"),
        ("stage1.model.factor=3", "factor is a power of two of at least 2, got 3"),
        ("stage1.trainer.max_steps=0", "stage1.trainer: max_steps is at least 1, got 0"),
        ("stage1.trainer.max_stepz=3", "stage1.trainer.max_stepz: no such key; did you mean max_steps?"),
        ("stage2.optimization.schedule=linear", "stage2.optimization.schedule: constant or cosine expected"),
        ("sampling.temperature=0", "temperature is above 0, got 0"),
        ("codes.copies=0", "codes.copies is at least 1, got 0"),
        ("experiment=nope", "nope"),
        ("data=nope", "nope"),
        ("stage1.model._target_=os.system", "'os.system' is outside of this project"),
        ("seed=null", "seed: int expected, got None"),
        ("n=many", "n: int expected, got 'many'"),
        ("data=folder", "data.files: a value is needed, e.g. data.files=..."),
        ("trainer.devices=0", "trainer: devices and num_nodes are at least 1, got 0 and 1"),
    ],
)
def test_wrong_settings_are_named_before_any_work(error, change, message, tmp_path):
    said = error("run", *TINY, "output=made", change)
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "made" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model=nowhere", "nowhere/tokenizer holds no finished tokenizer (config.yaml is missing): train it first"),
        ("label=11", "label=11: classes are 0 to 9 or by name"),
        ("n=0", "n is at least 1, got 0"),
        ("top_p=3", "top_p is in (0, 1], or null for all codes, got 3"),
        ("batch_size=0", "batch_size is at least 1, got 0"),
    ],
)
def test_wrong_sampling_is_named(error, tiny_run, change, message):
    words = [f"model={tiny_run}", "output=made", change]
    assert message in error("sample", *({word.split("=")[0]: word for word in words}.values()))


def test_images_that_are_not_there(error, tmp_path):
    rest = ["data=folder", *[word for word in TINY if not word.startswith("experiment")], "output=made"]
    assert "missing" in error("run", "data.files=missing", *rest)
    (tmp_path / "empty").mkdir()
    assert "empty" in error("run", "data.files=empty", *rest)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "empty" / "one.png")
    assert "image" in error("run", "data.files=empty", *rest)
    assert not (tmp_path / "made" / "checkpoints").exists()


def test_output_is_absolute(monkeypatch, tmp_path):
    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.chdir(tmp_path)
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=["output=here"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        assert Path(plain(config)["output"]) == tmp_path / "here"
