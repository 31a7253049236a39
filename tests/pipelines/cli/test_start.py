"""What commands import: help and mistakes come before torch, sampling before Lightning. Modules are counted."""

import json
import subprocess
import sys

import pytest

from pipelines.train_stage1 import main
from tests.support.commands import forked_output
from tests.support.tiny import TINY

REPORT = """
import atexit, json, runpy, sys
atexit.register(lambda: open("modules.json", "w").write(json.dumps(sorted(sys.modules))))
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""

FOR_TRAINING = {"pytorch_lightning", "torchmetrics", "wandb", "datasets", "torch._dynamo", "matplotlib", "tensorboard"}
FOR_MODELS = FOR_TRAINING | {"torch", "numpy", "safetensors", "PIL"}


@pytest.fixture
def start(tmp_path):
    """Exit code, output and imported modules of a command in a process of its own."""

    def run(module, *words):
        command = [sys.executable, "-c", REPORT, module, *words]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr, set(json.loads((tmp_path / "modules.json").read_text()))

    return run


@pytest.mark.parametrize("word", ["--help", "--hydra-help", "--info", "--cfg=job", "--info=defaults-tree"])
def test_what_a_command_says_of_itself_needs_no_torch(word, start):
    code, said, modules = start("pipelines.run", *word.split("="))
    assert code == 0, said
    assert not modules & FOR_MODELS


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("run", ["stage1.model.widht=8"], "stage1.model.widht: no such key; did you mean width?"),
        ("run", ["+stage1.model.widht=8"], "stage1.model.widht: no such key; did you mean width?"),
        ("run", ["+data.augmentation.flp=true"], "data.augmentation.flp: no such key; did you mean flip?"),
        ("run", ["stage1.quantizer.dim=abc"], "stage1.quantizer.dim: int expected, got 'abc'"),
        ("run", ["stage1.quantizer.metric=near"], "stage1.quantizer.metric: euclidean or cosine expected, got 'near'"),
        ("run", ["stage2.trainer.max_steps=many"], "stage2.trainer.max_steps: int expected, got 'many'"),
        ("run", ["sampling.top_k=0.5"], "sampling.top_k: int or null expected, got 0.5"),
        ("run", ["stage2=nope"], "stage2=nope: no such option; there are pixelcnn"),
        ("run", ["stage1/quantiser=fsq"], "stage1/quantiser: no such key; did you mean stage1/quantizer?"),
        ("run", ["data=folder"], "data.files: a value is needed"),
        ("run", ["n=(3"], "n=(3"),
        ("run", ["~stage2.optimization"], "stage2.optimization: a value is needed"),
        ("run", ["objective=stage2.nat"], "objective: "),
        ("run", ["stage1.model._target_=torch.load"], "outside of this project"),
        ("run", ["stage1.model._target_=stage1_vqvae.VQVA"], "stage1.model._target_: there is no 'stage1_vqvae.VQVA'"),
        ("sample", [], "model: a value is needed"),
        ("sample", ["model=x", "temperature=warm"], "temperature: float or recipe expected, got 'warm'"),
        ("evaluate", ["model=x", "network.steps=few"], "network.steps: int expected, got 'few'"),
        ("complete", ["model=x", "images=y", "candidates=1.5"], "candidates: int or null expected, got 1.5"),
        ("reconstruct", ["model=x", "data.files=y", "batch=3"], "batch: no such key; did you mean batch_size?"),
        ("collapse", ["autoencoder.layers=two"], "autoencoder.layers: int expected, got 'two'"),
    ],
)
def test_a_mistake_in_the_command_line_is_found_without_torch(command, words, message, start):
    code, said, modules = start(f"pipelines.{command}", *words)
    assert code == 1
    assert message in said
    assert "Traceback" not in said
    assert not modules & FOR_MODELS


def test_sampling_imports_neither_training_nor_trackers_nor_data(tiny_run, start):
    code, said, modules = start("pipelines.sample", f"model={tiny_run}", "n=1")
    assert code == 0, said
    assert "torch" in modules
    assert not modules & FOR_TRAINING


def test_a_generator_is_loaded_by_few_more_modules_than_torch(tiny_run):
    def modules(code):
        command = [sys.executable, "-c", f"{code}\nimport sys; print(len(sys.modules), *sys.modules)"]
        count, *names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(count), set(names)

    torch_alone, _ = modules("import torch")
    loaded, names = modules(f"from pipelines import Generator\nGenerator.load({str(tiny_run)!r})")
    assert loaded < 1.3 * torch_alone
    assert not names & (FOR_TRAINING | {"hydra", "rich"})


def test_a_training_shows_nothing_of_lightnings_own(tmp_path):
    small = [word for word in TINY if not word.startswith("stage2.")]
    code, said = forked_output(main, [*small, "output=runs/quiet"], tmp_path)
    assert code == 0, said
    assert "✓ tokenizer" in said
    for text in ("GPU available", "TPU available", "Tip:", "litlogger", "weights_only", "`Trainer.fit` stopped"):
        assert text not in said
