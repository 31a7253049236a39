"""Runs that earlier versions left: they load, sample the same codes, are evaluated alike, and train on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.artifacts.models import fingerprint
from pipelines.config.migrations import modernised_weights
from pipelines.generator import Generator
from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.run import run
from pipelines.tasks.train_stage1 import train_stage1
from stage2_prior.pixelcnn import PixelCNN
from stage2_prior.transformer import Transformer
from tests.support.tiny import compose

RUNS = sorted(path for path in (Path(__file__).parents[1] / "old_runs").glob("*/*") if path.is_dir())
COMMON = [
    "logger=csv",
    *(f"stage{stage}.trainer.{key}" for stage in (1, 2) for key in ("max_steps=20", "validate_every=10")),
    *(f"stage{stage}.trainer.checkpoint_every=10" for stage in (1, 2)),
    *("stage1.batch_size=32", "stage2.batch_size=32", "stage2.trainer.ema_decay=0.9"),
    *("data=mnist5k", "data.image_size=[8,8]", "data.augmentation.shift=1", "n=20"),
    *("stage1.model.width=8", "stage1.model.residual_width=4", "stage1.model.residual_layers=1"),
    *("sampling.min_p=0.02", "sampling.guidance=1.5"),
]
KINDS = {
    "transformer": [
        *("stage1.quantizer.dim=4", "stage1.quantizer.codebook_size=16", "stage2=transformer_small"),
        *("stage2.model.width=16", "stage2.model.layers=2", "stage2.model.heads=2"),
        *("stage2/optimizer=adamw", "stage2.optimization.warmup_steps=2"),
    ],
    "hierarchy": [
        *("stage1=vqvae2", "stage1.model.downsample_factors=[2,2]", "stage1.trainer.ema_decay=0.9"),
        *("stage1/quantizer@stage1.levels.top=fsq", "stage1.levels.top.levels=[4,4]"),
        *("stage1.levels.bottom.dim=4", "stage1.levels.bottom.codebook_size=16"),
        *("stage2=pixelcnn_hierarchy", "stage2.model.width=8", "stage2.model.layers=[2,2]"),
        *("stage2.model.attention_every=[1,null]", "+stage2.model.coarse_blocks=1", "stage2.model.heads=2"),
    ],
}
"""The commands of tests/old_runs/README.md by today's names."""

pytestmark = pytest.mark.parametrize("old", RUNS, ids=[f"{path.parent.name}-{path.name}" for path in RUNS])


@pytest.fixture
def copied(old, tmp_path):
    """A copy that may be changed."""
    return Path(shutil.copytree(old, tmp_path / "run"))


def settings_of(old, output):
    return compose(*COMMON, *KINDS[old.name], f"output={output}")


def test_it_loads_and_draws_the_same_codes(old):
    generator = Generator.load(old, "cpu")
    with np.load(old / "samples" / "images.npz") as drawn:
        samples = generator.sample(len(drawn["codes"]))
        assert (samples.codes.numpy() == drawn["codes"]).mean() > 0.99  # another processor may round otherwise
        assert samples.labels.tolist() == drawn["labels"].tolist()
    trained_on = yaml.safe_load((old / "prior" / "config.yaml").read_text())["tokenizer"]
    assert fingerprint(old / "tokenizer") == trained_on


def test_the_same_command_finds_it_done(old, copied, capsys):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    run(settings_of(old, copied))
    shown = capsys.readouterr().out
    for part in ("tokenizer: already trained", "codes: already extracted", "prior: already trained", "already drawn"):
        assert part in shown
    # Only what is made anew each time: the report, and the record of the command.
    changed = {path.relative_to(copied).parts[0] for path in before if path.read_bytes() != before[path]}
    assert changed <= {"command.json", "report.html"}
    assert (copied / "report.html").exists()


@pytest.mark.parametrize("change", ["stage2.model.dropout=0.3", "stage1.model.width=16", "seed=1"])
def test_other_settings_are_still_refused(old, copied, change):
    settings = compose(*COMMON, *KINDS[old.name], change, f"output={copied}")
    with pytest.raises(ValueError, match="of other settings"):
        run(settings)


def test_its_prior_trains_on_to_the_same_weights(old, copied):
    for name in ("config.yaml", "model.safetensors", "metrics.json"):
        (copied / "prior" / name).unlink()
    shutil.rmtree(copied / "samples")
    run(settings_of(old, copied))
    found, expected = (load_file(path / "prior" / "model.safetensors") for path in (copied, old))
    expected = modernised_weights({"transformer": Transformer, "hierarchy": PixelCNN}[old.name], expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_its_tokenizer_trains_on_to_the_same_weights(old, copied):
    if not (old / "checkpoints" / "stage1").exists():
        pytest.skip("kept without a checkpoint of stage one")
    for name in ("config.yaml", "model.safetensors", "metrics.json"):
        (copied / "tokenizer" / name).unlink()
    train_stage1(settings_of(old, copied))
    found, expected = (load_file(path / "tokenizer" / "model.safetensors") for path in (copied, old))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_it_is_evaluated_alike(old, copied):
    (evaluation,) = sorted((old / "evaluation").glob("*/evaluation.json"))
    shutil.rmtree(copied / "evaluation")
    evaluate(compose(f"model={copied}", "n=50", "network.steps=20", "batch_size=500", command="evaluate"))
    (path,) = sorted((copied / "evaluation").glob("*/evaluation.json"))
    found, expected = json.loads(path.read_text()), json.loads(evaluation.read_text())
    for section in ("codes", "latents", "likelihood"):
        for name, value in expected[section].items():
            assert found[section][name] == pytest.approx(value, rel=1e-3), name
