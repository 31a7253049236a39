"""Every command and Python block of the README and of ``docs/`` runs as it stands there, with the smallest settings.

Commands of a block with a mark (``gpus``, ``hours``, ``network``) are composed and checked, not run. What
``docs/extending.md`` says is run by ``test_extending.py``.
"""

import itertools
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
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import pipelines
from pipelines.cli.arguments import as_given
from pipelines.config.schema import check_settings
from tests.support.pages import MARKS, PAGES, ROOT, blocks, commands
from tests.support.tiny import HIERARCHY, TINY, compose

EXTENDING = "docs/extending.md"

COMMANDS = [(page, command, mark) for page in PAGES if page != EXTENDING for command, mark in commands(page)]
RUN = dict.fromkeys(command for _, command, mark in COMMANDS if command.startswith("python -m ") and not mark)
COMPOSED = [command for _, command, mark in COMMANDS if mark and "pipelines." in command]
BENCHMARKS = [command for _, command, mark in COMMANDS if mark and command.startswith("python -m tests.")]
TRAINING = ("pipelines.run", "pipelines.train_stage1", "pipelines.extract_codes", "pipelines.train_stage2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_run):
    """Where a reader would type the commands: with a finished demo and images of their own."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(tiny_run, folder / "runs" / "demo")
    rng = np.random.default_rng(0)
    for index in range(24):
        path = folder / "my_images" / ("cats" if index % 2 else "dogs") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(path)
    pixels = rng.integers(0, 256, (24, 40, 36, 3), dtype=np.uint8)
    np.savez(folder / "my_images.npz", images=pixels, labels=np.arange(24) % 2)
    files = sorted((folder / "my_images").rglob("*.png"))
    write_parquet(folder / "my_images.parquet", files)
    # No image is in both: exact copies of training images are left out of the others.
    write_parquet(folder / "my_cifar10" / "train-00000-of-00001.parquet", files[:16])
    write_parquet(folder / "my_cifar10" / "test-00000-of-00001.parquet", files[16:])
    return folder


def write_parquet(path, files):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    features = Features({"img": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    rows = {"img": [{"bytes": file.read_bytes(), "path": None} for file in files], "label": [0, 1] * (len(files) // 2)}
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(path)


def smallest(words):
    """Settings that a command does not make itself, as small as they can be."""
    given = {word.split("=")[0] for word in words}
    extra = [] if {"data=folder", "data=numpy", "data=parquet"}.intersection(words) else ["experiment=mnist5k"]
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
    if any(word.startswith("stage1/network=vq") for word in words):
        tiny = [word for word in tiny if not word.startswith("stage1.model.residual_")] + ["stage1.model.layers=[1,2]"]
    return [word for word in tiny if word.split("=")[0] not in given]


SMALL = {
    "pipelines.evaluate": ["n=16", "network.steps=2", "network.width=4"],
    "pipelines.collapse": ["trainer.max_steps=2", "trainer.validate_every=2", "autoencoder.layers=1"],
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


@pytest.mark.parametrize("command", RUN)
def test_commands_run(command, run_here):
    words = shlex.split(command)
    if words[2] in TRAINING and "--info" not in words:
        place = 4 if words[3] == "-m" else 3  # overrides stand together
        words[place:place] = smallest(words)
    words = [word for word in words if not word.startswith("n=")] if words[2] in SMALL else words
    words += SMALL.get(words[2], [])
    if "logger=csv" not in words and "wandb_mode=online" in words:  # needs an account: with its network side off
        words[words.index("wandb_mode=online")] = "wandb_mode=offline"
    code, shown = run_here(words)
    assert code in (0, None), code
    assert shown


def jobs(words):
    """The overrides of each job of a sweep; of a search, those of one point."""
    parsed = OverridesParser.create().parse_overrides(words)
    choices = []
    for override in parsed:
        key = override.input_line.partition("=")[0]
        if override.is_interval_sweep():
            choices.append([f"{key}={override.value().start}"])
        elif override.is_sweep_override():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([override.input_line])
    return list(itertools.product(*choices))


@pytest.mark.parametrize("command", COMPOSED)
def test_marked_commands_compose(command):
    words = shlex.split(command)
    module = next(word for word in words if word.startswith("pipelines."))
    words = [word for word in words[words.index(module) + 1 :] if word != "-m"]
    for launcher in ("joblib", "optuna", "submitit"):
        if any(word.startswith("hydra/") and launcher in word for word in words):
            pytest.importorskip(f"hydra_plugins.hydra_{launcher}_{'sweeper' if launcher == 'optuna' else 'launcher'}")
    name = "config" if module in TRAINING else module.removeprefix("pipelines.")
    for job in jobs(as_given(["-m", *words])[1:]):
        check_settings(compose(*job, command=name), name)


@pytest.mark.parametrize("command", BENCHMARKS)
def test_marked_benchmarks_exist(command, run_here):
    code, shown = run_here([*shlex.split(command)[:3], "--help"])
    assert code == 0
    assert "usage" in shown


def test_sweeps_and_searches_are_taken_apart():
    assert jobs(["a=1", "b=2,3", "c=interval(0.5,1)", "d=[4,5]"]) == [
        ("a=1", "b=2", "c=0.5", "d=[4,5]"),
        ("a=1", "b=3", "c=0.5", "d=[4,5]"),
    ]


@pytest.mark.slow
def test_torchrun_command_on_this_machine(folder):
    (command,) = [line for _, line, _ in COMMANDS if line.startswith("torchrun")]
    words = shlex.split(command)
    words = ["torchrun", "--standalone", "--nproc-per-node", "2", *words[5:]]
    replaced = {"experiment": "mnist5k", "output": "runs/torchrun", "hardware.devices": "2", "hardware.num_nodes": "1"}
    words = [f"{key}={replaced[key]}" if (key := word.split("=")[0]) in replaced else word for word in words]
    finished = run([*words, "hardware.accelerator=cpu", *smallest(words)], folder)
    assert finished.returncode == 0, finished.stderr
    assert (folder / "runs" / "torchrun" / "samples" / "grid.png").exists()


def test_make_targets_exist():
    for _, command, _ in COMMANDS:
        if command.startswith("make "):
            shown = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True)
            assert shown.returncode == 0, shown.stderr


def test_installation_is_what_make_does():
    """``make`` installs the locked files; a page's ``pip`` takes the same versions from the constraints."""
    assert "requirements/install.sh $(BIN)/python" in (ROOT / "Makefile").read_text()
    listed = (line.split()[0] for line in (ROOT / "requirements" / "cpu.txt").read_text().splitlines() if "==" in line)
    locked = {pinned.replace("_", "-").lower().removesuffix("+cpu") for pinned in listed}
    for pinned in (ROOT / "constraints.txt").read_text().split():
        assert pinned.replace("_", "-").lower() in locked
    for _, command, _ in COMMANDS:
        if command.startswith("pip "):
            assert "-c constraints.txt -e" in command


def test_no_command_is_left_out():
    known = ("python -m pipelines.", "python -m tests.", "python -m pytest tests/", "torchrun ", "srun ", "make ")
    known += ("pip ", "wandb sync ", "git ", ".venv/bin/")
    tests = [command.split()[-1] for _, command, _ in COMMANDS if " pytest " in command]
    assert [path for path in tests if not (ROOT / path).exists()] == []
    assert [
        command
        for _, command, _ in COMMANDS
        if not command.startswith((*known, ".venv/bin/", "python -m pytest tests/"))
    ] == []
    assert {mark for _, _, mark in COMMANDS} <= {"", *MARKS}


def test_no_word_is_a_pattern_of_some_shell():
    """Zsh refuses a bare ``image_size=[64,64]``: it looks for files of that pattern."""
    every = [command for page in PAGES for command, _ in commands(page) if "pipelines." in command]
    words = [word for command in every for word in re.sub(r"'[^']*'", "", command).split()]
    assert [word for word in words if re.search(r"[\[\]{}*?~]", word)] == []


def briefly(train):
    """``train`` with the smallest settings beside those that it is given."""
    words = (word.partition("=") for word in TINY if not word.startswith("experiment="))
    small = {key: yaml.safe_load(value) for key, _, value in words}

    def train_briefly(*images, settings, **more):
        return train(*images, settings={**small, **settings}, **more)

    return train_briefly


@pytest.mark.parametrize("page", [page for page in PAGES if page != EXTENDING])
def test_python_blocks(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pipelines, "train", briefly(pipelines.train))
    names = {}
    for block in blocks(page):
        if block.language == "python" and not block.mark:
            exec(compile(block.text, page, "exec"), names)
