"""Every command and every Python block of the README runs, as it stands there, with the smallest settings added."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import HIERARCHY, TINY

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)


COMMANDS = [line for block in blocks("bash") for line in block.strip().splitlines()]
PIPELINES = [line for line in COMMANDS if line.startswith("python -m pipelines.")]
TRAINING = ("pipelines.run", "pipelines.train_stage1", "pipelines.extract_codes", "pipelines.train_stage2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_run):
    """Where a reader would type the commands: with a finished demo and images of their own."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(tiny_run, folder / "runs" / "demo")
    rng = np.random.default_rng(0)
    for index in range(24):
        path = folder / "my_images" / ("cats" if index % 2 else "dogs") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(path)
    write_parquet(folder / "my_images" / "train.parquet", folder)
    for split in ("train", "test"):
        write_parquet(folder / "my_cifar10" / f"{split}-00000-of-00001.parquet", folder)
    return folder


def write_parquet(path, folder):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    files = sorted(str(file) for file in (folder / "my_images").rglob("*.png"))
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    rows = {"img": [{"bytes": Path(file).read_bytes(), "path": None} for file in files], "label": [0, 1] * 12}
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(path)


def smallest(words):
    """Settings that a command does not make itself, as small as they can be."""
    given = {word.split("=")[0] for word in words}
    extra = [] if "data=folder" in words or "data=parquet" in words else ["experiment=mnist5k"]
    hierarchy = any(word.startswith("experiment=") and "vqvae2" in word for word in words)
    tiny = [word for word in (HIERARCHY if hierarchy else TINY) if not word.startswith("experiment=")] + extra
    if hierarchy and any("transformer" in word for word in words):
        tiny = [word for word in tiny if not word.startswith("stage2.model.")] + ["stage2.model.width=16"]
    if hierarchy and any("stage1/quantizer@" in word for word in words):
        tiny = [word for word in tiny if not word.startswith("stage1.levels.top.")]
    if any("pixelcnn" in word for word in words):  # which has channels, not width and heads
        tiny = [word for word in tiny if not word.startswith(("stage2.model.width", "stage2.model.heads"))]
    if any(word.startswith("stage1/quantizer=") and "," not in word for word in words):  # with keys of its own
        tiny = [word for word in tiny if not word.startswith("stage1.quantizer.")]
    return [word for word in tiny if word.split("=")[0] not in given]


SMALL = {
    "pipelines.evaluate": ["n=16", "network.steps=2", "network.width=4"],
    "pipelines.collapse": ["training.max_steps=2", "training.validate_every=2", "autoencoder.layers=1"],
}
"""Of other commands that would take long."""


def run(words, folder):
    """A command in a process of its own."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def run_here(monkeypatch, capfd, folder):
    """A ``python -m`` command in this process, which spares it the imports: exit code and output."""

    def run_module(words):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", words[2:])
        monkeypatch.delitem(sys.modules, words[2], raising=False)
        try:
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as exit:
            code = exit.code
        return code, capfd.readouterr().out

    return run_module


@pytest.mark.parametrize("command", PIPELINES)
def test_pipeline_commands(command, run_here):
    words = shlex.split(command)
    if words[2] in TRAINING:
        place = 4 if words[3] == "-m" else 3  # overrides stand together
        words[place:place] = smallest(words)
    words = [word for word in words if not word.startswith("n=")] if words[2] in SMALL else words
    words += SMALL.get(words[2], [])
    if "logger=csv" not in words and "wandb_mode=online" in words:  # needs an account: with its network side off
        words[words.index("wandb_mode=online")] = "wandb_mode=offline"
    if needs_more_than_a_cpu(words):
        code, shown = run_here([*words, "--cfg", "job"])
        assert code == 0
        assert "_target_: pipelines.distributed.Hardware" in shown
    else:
        code, shown = run_here(words)
        assert code in (0, None), code
        assert shown


def needs_more_than_a_cpu(words):
    gpu = not {"hardware=gpu", "hardware=fsdp"}.isdisjoint(words) or (
        "hardware=ddp" in words and "hardware.accelerator=cpu" not in words
    )
    return gpu or (
        any(word.startswith("experiment=cifar10") for word in words)
        and not any(word.startswith("data.files") for word in words)
    )


@pytest.mark.slow
def test_torchrun_command_on_this_machine(folder):
    (command,) = [line for line in COMMANDS if line.startswith("torchrun")]
    words = shlex.split(command)
    words = ["torchrun", "--standalone", "--nproc-per-node", "2", *words[5:]]
    replaced = {"experiment": "mnist5k", "output": "runs/torchrun", "hardware.devices": "2", "hardware.num_nodes": "1"}
    words = [f"{key}={replaced[key]}" if (key := word.split("=")[0]) in replaced else word for word in words]
    finished = run([*words, "hardware.accelerator=cpu", *smallest(words)], folder)
    assert finished.returncode == 0, finished.stderr
    assert (folder / "runs" / "torchrun" / "samples" / "grid.png").exists()


def test_srun_command_composes(run_here):
    (command,) = [line for line in COMMANDS if line.startswith("srun")]
    words = shlex.split(command)
    code, shown = run_here([*words[words.index("python") :], "--cfg", "job"])
    assert code in (0, None)
    assert "num_nodes: 2" in shown


def test_make_targets_exist():
    for command in COMMANDS:
        if command.startswith("make "):
            shown = subprocess.run(["make", "-n", command.split()[1]], cwd=ROOT, capture_output=True, text=True)
            assert shown.returncode == 0, shown.stderr


def test_installation_is_what_make_does():
    (command,) = [line for line in COMMANDS if line.startswith("pip ")]
    made = (ROOT / "Makefile").read_text()
    assert "pip install" in made
    assert "-c constraints.txt -e" in command
    assert "-c constraints.txt -e" in made


def test_no_command_is_left_out():
    known = ("python -m pipelines.", "torchrun ", "srun ", "make ", "pip ", "wandb sync ")
    assert all(command.startswith(known) for command in COMMANDS)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(block, "README.md", "exec"), {})
