import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.generator import Generator
from pipelines.sweep.shared_stage2 import shared_prior
from pipelines.tasks.train_stage2 import train_stage2
from stage1_vqvae.files import read_json, read_yaml
from tests.support.tiny import TINY, compose


@pytest.fixture
def sweep(tmp_path, tiny_run):
    """Makes a job with stage one of a finished run."""

    def job(number, *words):
        output = tmp_path / "sweep" / str(number)
        if not output.exists():
            for part in ("tokenizer", "codes"):
                shutil.copytree(tiny_run / part, output / part)
            (output / "logs").mkdir()
            (output / "logs" / "metrics.csv").write_text("stage,step,metric,value\nstage1,9,validation/psnr,20.0\n")
        settings = compose(*TINY, f"output={output}", *words)
        return {**settings, "sweep": {"folder": str(tmp_path / "sweep"), "number": number, "overrides": []}}

    return job


def train(settings):
    with shared_prior(settings):
        train_stage2(settings)
    return RunFolder(Path(settings["output"]))


def trained(run):
    """Whether a prior was trained in this very folder: a training leaves checkpoints."""
    return any(run.checkpoints("stage2").glob("step-*.ckpt"))


def inode(run):
    return (run.prior / "model.safetensors").stat().st_ino


def test_jobs_that_differ_in_sampling_train_one_prior_and_keep_their_own_recipes(sweep):
    first = train(sweep(0, "sampling.temperature=0.5"))
    second = train(sweep(1, "sampling.temperature=0.75", "n=7", "label=3"))
    assert (trained(first), trained(second)) == (True, False)
    assert inode(first) == inode(second)
    assert fingerprint(first.prior) == fingerprint(second.prior)
    recipes = [read_yaml(run.prior / "config.yaml")["sampling"]["temperature"] for run in (first, second)]
    assert recipes == [0.5, 0.75]
    assert read_json(first.prior / "metrics.json") == read_json(second.prior / "metrics.json")
    logged = [(run.path / "logs" / "metrics.csv").read_text() for run in (first, second)]
    assert logged[0] == logged[1]
    assert "stage2," in logged[1]
    train_stage2(sweep(1, "sampling.temperature=0.75", "n=7", "label=3"))  # its folder is complete by itself
    drawn = [Generator.load(run.path).sample(3, seed=1, temperature=1.0).codes for run in (first, second)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("word", ["stage2.seed=7", "stage2.batch_size=8", "hardware.precision=bf16-mixed"])
def test_what_makes_another_prior_is_trained(sweep, word):
    first, second = train(sweep(0)), train(sweep(1, word))
    assert trained(second)
    assert inode(first) != inode(second)


def test_the_seed_of_the_stage_is_what_counts(sweep):
    train(sweep(0))
    assert not trained(train(sweep(1, "seed=9", "stage2.seed=0")))
    assert trained(train(sweep(2, "seed=9")))


def test_a_training_that_fails_gives_nothing(sweep):
    settings = sweep(0)
    with pytest.raises(KeyboardInterrupt), shared_prior(settings):
        raise KeyboardInterrupt
    assert trained(train(sweep(1)))


def test_a_training_that_was_begun_goes_on(sweep):
    begun = sweep(0)
    run = RunFolder(Path(begun["output"]))
    train_stage2(begun)
    for name in ("config.yaml", "model.safetensors", "metrics.json"):  # as a kill at its end leaves it
        (run.prior / name).unlink()
    train(sweep(1))
    before = (run.checkpoints("stage2") / "settings.yaml").stat().st_mtime_ns
    assert (train(begun).checkpoints("stage2") / "settings.yaml").stat().st_mtime_ns == before
    assert inode(run) != inode(RunFolder(run.path.parent / "1"))
    first, second = ((RunFolder(run.path.parent / job).prior / "model.safetensors").read_bytes() for job in "01")
    assert first == second


def test_a_job_that_was_killed_while_it_took_over_does_so_again(sweep):
    train(sweep(0))
    second = train(sweep(1))
    (second.prior / "config.yaml").unlink()  # written last
    again = train(sweep(1))
    assert not trained(again)
    assert (again.prior / "config.yaml").exists()


def test_outside_of_a_sweep_nothing_is_shared(sweep, tmp_path):
    settings = sweep(0)
    with shared_prior({**settings, "sweep": None}):
        pass
    assert not (tmp_path / "sweep" / "shared").exists()
