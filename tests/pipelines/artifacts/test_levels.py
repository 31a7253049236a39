"""Parts of a prior trained apart, in one folder and by the jobs of a sweep."""

import shutil

import numpy as np
import pytest
import torch

from pipelines.artifacts.levels import joined_metrics, missing_levels
from pipelines.artifacts.run_folder import RunFolder
from pipelines.generator import Generator
from pipelines.sweep.shared_stage2 import exchange_levels
from pipelines.tasks.run import run
from pipelines.tasks.train_stage2 import train_stage2
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json, read_yaml
from stage2_prior.code_store.store import CodeStore
from tests.support.tiny import HIERARCHY, compose


@pytest.fixture
def begun(tiny_hierarchy, tmp_path):
    """A run whose tokenizer and codes are made; gives a function that goes on with some settings, and its folder."""
    for part in ("tokenizer", "codes"):
        shutil.copytree(tiny_hierarchy / part, tmp_path / "run" / part)

    def go_on(*words, command=train_stage2, output=tmp_path / "run", **more):
        command({**compose(*HIERARCHY, f"output={output}", *words), **more})

    return go_on, RunFolder(tmp_path / "run")


def test_parts_trained_apart_make_one_prior(begun, capsys):
    go_on, folder = begun
    go_on("stage2.level=1", overrides=["experiment=mine", "stage2.level=1"])
    assert missing_levels(folder) == [0]
    with pytest.raises(ValueError, match="holds no finished prior"):
        Generator.load(folder.path)
    go_on("stage2.level=1", command=run)
    said = capsys.readouterr().out
    assert "prior of grid 1: already trained" in said
    assert "still to train before samples can be drawn: stage2.level=0" in said
    assert not folder.samples.exists()

    go_on("stage2.level=0", command=run, overrides=["experiment=mine", "stage2.level=0", "n=20"])
    assert missing_levels(folder) == []
    assert (folder.samples / "grid.png").exists()
    generator = Generator.load(folder.path)
    store = CodeStore.open(folder.codes("validation"))
    batch = store.__getitems__(list(range(len(store))))
    with torch.no_grad():
        nats = generator.layout.split(generator.prior.nats(batch["codes"], batch["labels"]))
    metrics = read_json(folder.prior / "metrics.json")
    for grid, of_grid in enumerate(nats):
        assert metrics[f"nats_{grid}"] == pytest.approx(of_grid.mean().item(), rel=1e-4)
    report = folder.report.read_text()
    assert "Nats per code of grid 0" in report
    assert "Nats per code of grid 1" in report
    again = [line for line in report.splitlines() if f"output={folder.path}-again" in line]
    assert ["stage2.level=1" in line for line in again] == [True, False]
    assert ["stage2.level=0 n=20" in line for line in again] == [False, True]  # the one that drew the samples is last

    before = (folder.prior / "model.safetensors").read_bytes()
    go_on()  # the whole of the same settings
    assert "prior: already trained" in capsys.readouterr().out
    assert (folder.prior / "model.safetensors").read_bytes() == before


def test_the_order_of_the_parts_does_not_matter(begun, tmp_path):
    go_on, folder = begun
    shutil.copytree(folder.path, tmp_path / "other")
    for level in (0, 1):
        go_on(f"stage2.level={level}")
        go_on(f"stage2.level={1 - level}", output=tmp_path / "other")
    for name in ("model.safetensors", "config.yaml", "metrics.json", "settings.yaml"):
        assert (folder.prior / name).read_bytes() == (tmp_path / "other" / "prior" / name).read_bytes(), name


def test_parts_of_different_priors_are_not_joined(begun):
    go_on, folder = begun
    go_on("stage2.level=0")
    with pytest.raises(ValueError, match=r"levels/0 holds a part of another prior \(width: 8, now 16\): give its"):
        go_on("stage2.level=1", "stage2.model.width=16")
    assert not folder.level(1).exists()
    with pytest.raises(ValueError, match="holds a prior of grid 0 of other settings"):
        go_on("stage2.level=0", "stage2.trainer.max_steps=7")
    go_on("stage2.level=1", "stage2.trainer.max_steps=7")  # parts may train for different lengths
    assert missing_levels(folder) == []


def test_a_part_that_there_is_not_is_refused_and_leaves_nothing(begun):
    go_on, folder = begun
    with pytest.raises(ValueError, match="grids are 0 to 1, coarse to fine, got level 2"):
        go_on("stage2.level=2")
    whole = compose(*HIERARCHY[:-2], "stage2=transformer", f"output={folder.path}", "+stage2.level=0")
    with pytest.raises(ValueError, match="a Transformer has no part for grid 0 alone"):
        train_stage2(whole)
    assert not folder.prior.exists()


def test_jobs_of_a_sweep_that_differ_in_the_level_make_one_prior(begun, tiny_hierarchy, tmp_path):
    go_on, _ = begun
    for number in (0, 1):
        job = tmp_path / "sweep" / str(number)
        for part in ("tokenizer", "codes"):
            shutil.copytree(tiny_hierarchy / part, job / part)
        sweep = {"folder": str(tmp_path / "sweep"), "number": number, "overrides": []}
        for command in (train_stage2, exchange_levels):
            go_on(f"stage2.level={number}", command=command, output=job, sweep=sweep)
    first, last = (RunFolder(tmp_path / "sweep" / str(number)) for number in (0, 1))
    assert missing_levels(first) == [1]
    assert missing_levels(last) == []
    sweep = {"folder": str(tmp_path / "sweep"), "number": 0, "overrides": []}
    go_on("stage2.level=0", command=exchange_levels, output=first.path, sweep=sweep)  # the same command again
    assert (first.prior / "model.safetensors").read_bytes() == (last.prior / "model.safetensors").read_bytes()
    assert read_yaml(last.prior / "config.yaml")["layout"] == CodeStore.open(last.codes("train")).layout.to_dict()


def test_joined_figures_are_means_over_positions():
    layout = CodeLayout(((1, 2), (2, 3)), (4, 8))
    found = joined_metrics([{"nats": 1.0, "bits": 2.0}, {"nats": 3.0, "bits": 4.0}], layout)
    np.testing.assert_allclose(
        [found[name] for name in ("nats", "bits", "nats_0", "nats_1")], [(2 * 1 + 6 * 3) / 8, (2 * 2 + 6 * 4) / 8, 1, 3]
    )
