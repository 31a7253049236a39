"""What is the user's mistake ends a command in one line that names the thing; nothing is written."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from pipelines.cli.process import room_for_a_batch
from pipelines.config.conf import CONF
from pipelines.config.hydra_versions import VERSION_BASE
from pipelines.config.settings import plain_settings
from tests.support.tiny import TINY


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
        ("stage1.model.widht=8", "stage1.model.widht: no such key; did you mean width?"),
        ("+stage1.model.widht=8", "stage1.model.widht: no such key; did you mean width?"),
        ("stage1.quantizer.dim=abc", "stage1.quantizer.dim: int expected, got 'abc'"),
        ("stage1.quantizer.decay=2", "stage1.model.quantizer: decay is in [0, 1), got 2"),
        (
            "stage1.model.padding=1",
            "image_size 28×28 + 2 × padding 1 is not divisible by downsample_factor 8: 30×30 would work",
        ),
        ("stage1.model.downsample_factor=3", "downsample_factor is a power of two of at least 2, got 3"),
        ("stage1.trainer.max_steps=0", "stage1.trainer: max_steps is at least 1, got 0"),
        ("stage1.trainer.max_stepz=3", "stage1.trainer.max_stepz: no such key; did you mean max_steps?"),
        ("stage2.optimization.schedule=linear", "stage2.optimization.schedule: constant or cosine expected"),
        ("sampling.temperature=-1", "temperature is 0, or at least"),
        ("codes.copies=0", "codes.copies is at least 1, got 0"),
        ("experiment=nope", "nope"),
        ("data=nope", "nope"),
        ("stage1.model._target_=os.system", "'os.system' is outside of this project"),
        ("seed=null", "seed: int expected, got None"),
        ("n=many", "n: int expected, got 'many'"),
        ("data=folder", "data.files: a value is needed, e.g. data.files=..."),
        ("hardware.devices=0", "hardware: devices and num_nodes are at least 1, got 0 and 1"),
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
        ("label=11", "label=11: classes are 0 to 9"),
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


@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nGPU 0 has 8"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 9 bytes"
        ),
    ],
)
def test_too_little_memory_says_what_to_make_smaller(raised):
    settings = {"batch_size": 256, "stage1": {"batch_size": 64}, "stage2": {"batch_size": 1}}
    with pytest.raises(ValueError, match=r"^out of memory \(") as caught, room_for_a_batch(settings):
        raise raised
    assert "try batch_size=128 or stage1.batch_size=32; stage1.trainer.accumulate" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="something else"), room_for_a_batch(settings):
        raise RuntimeError("something else")


def test_memory_that_runs_out_in_a_training_ends_it_in_a_line(error, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr("pipelines.tasks.tokenizer_stage.fit", full)
    assert "try batch_size=128 or stage1.batch_size=8 or stage2.batch_size=8" in error("run", *TINY, "output=made")


@pytest.mark.parametrize(
    ("environment", "change", "message"),
    [
        ({}, "hardware.num_nodes=2", "hardware.num_nodes=2: torchrun or srun starts the processes"),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"}, "hardware.devices=2", "started 4 processes, .* is 2"),
        ({"SLURM_NTASKS": "3"}, "hardware.devices=1", "started 3 processes, .* is 1"),
    ],
)
def test_other_processes_than_asked_for_are_refused(error, monkeypatch, environment, change, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert re.search(message, error("run", *TINY, "output=made", change))


def test_output_is_absolute(monkeypatch, tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", overrides=["output=here"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        assert Path(plain_settings(config)["output"]) == tmp_path / "here"
