import itertools
import shutil
from pathlib import Path

import pytest

from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.generator import Generator
from pipelines.tasks.run import run
from pipelines.tasks.train_stage1 import tokenizer_claim, train_stage1
from pipelines.tasks.train_stage2 import Part, part_claim, prior_sources, train_stage2
from pipelines.training.checkpoint_files import step_path
from pipelines.training.more_steps import go_further
from pipelines.training.optimization import Optimization
from stage1_vqvae.files import read_yaml
from tests.support.tiny import TINY, compose

CONSTANT = [f"{stage}.optimization.schedule=constant" for stage in ("stage1", "stage2")]
"""A schedule that does not know its end: a longer training begins as the shorter one."""


def asked(folder, *more):
    return compose(*TINY, *CONSTANT, "hardware=cpu", f"output={folder}", *more)


def claim_of(stage, folder):
    """Of a stage that is given ten steps."""
    run, settings = RunFolder(folder), asked(folder, f"{stage}.trainer.max_steps=10")
    if stage == "stage1":
        return tokenizer_claim(run, settings)
    return part_claim(Part.of(run, settings), run, prior_sources(settings, fingerprint(run.tokenizer)), settings)


class Killed(Exception):
    """In the place of SIGKILL."""


@pytest.fixture(scope="module")
def constant_run(tmp_path_factory):
    """A whole run of six steps in each stage."""
    folder = tmp_path_factory.mktemp("constant")
    run(asked(folder))
    return folder


def test_a_tokenizer_goes_on_and_the_run_of_before_is_kept(constant_run, tmp_path, capsys):
    shutil.copytree(constant_run, tmp_path / "longer")
    longer = ["stage1.trainer.max_steps=10"]
    train_stage1(asked(tmp_path / "longer", *longer))
    said = " ".join(capsys.readouterr().out.split())
    assert "tokenizer: goes on from step 6 to 10; the learning rate stays" in said
    train_stage1(asked(tmp_path / "from_start", *longer))
    assert fingerprint(tmp_path / "longer" / "tokenizer") == fingerprint(tmp_path / "from_start" / "tokenizer")
    assert not (tmp_path / "longer" / "prior").exists()
    before = Generator.load(tmp_path / "longer" / "tokenizer-of-6-steps")
    assert before.fingerprint == Generator.load(constant_run).fingerprint
    capsys.readouterr()
    train_stage1(asked(tmp_path / "longer", *longer))
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"stage1.trainer.max_steps: 10, now 6\)"):
        train_stage1(asked(tmp_path / "longer"))
    run(asked(tmp_path / "longer", *longer))
    assert Generator.load(tmp_path / "longer").fingerprint != before.fingerprint


@pytest.mark.parametrize(("stage", "train"), [("stage1", train_stage1), ("stage2", train_stage2)])
def test_a_training_that_ended_between_validations_goes_on(stage, train, constant_run, tmp_path):
    product = {"stage1": "tokenizer", "stage2": "prior"}[stage]
    between = [f"{stage}.trainer.{key}=4" for key in ("validate_every", "checkpoint_every")]
    for name, numbers in {"longer": (6, 10), "from_start": (10,)}.items():
        for part in ("tokenizer", "codes") if stage == "stage2" else ():
            shutil.copytree(constant_run / part, tmp_path / name / part)
        for steps in numbers:
            train(asked(tmp_path / name, *between, f"{stage}.trainer.max_steps={steps}"))
    assert (tmp_path / "longer" / f"{product}-of-6-steps").is_dir()
    assert (tmp_path / "longer" / "checkpoints" / stage / "step-00000010.ckpt").exists()
    assert fingerprint(tmp_path / "longer" / product) == fingerprint(tmp_path / "from_start" / product)


def test_a_prior_goes_on_and_its_samples_stay_with_the_older_one(constant_run, tmp_path):
    longer = ["stage2.trainer.max_steps=10"]
    for name in ("longer", "from_start"):
        shutil.copytree(constant_run, tmp_path / name)
    shutil.rmtree(tmp_path / "from_start" / "prior")
    shutil.rmtree(tmp_path / "from_start" / "checkpoints" / "stage2")
    for name in ("longer", "from_start"):
        train_stage2(asked(tmp_path / name, *longer))
    first, second = (Generator.load(tmp_path / name) for name in ("longer", "from_start"))
    assert first.fingerprint == second.fingerprint
    kept = tmp_path / "longer" / "prior-of-6-steps"
    assert Generator.load(kept).fingerprint == Generator.load(constant_run).fingerprint
    assert (kept / "samples" / "images.npz").is_file()
    assert not (tmp_path / "longer" / "samples").exists()
    earlier = read_yaml(tmp_path / "longer" / "prior" / "earlier_settings.yaml")
    assert [each["stage2"]["trainer"]["max_steps"] for each in earlier] == [6]


def test_fewer_steps_other_settings_and_a_training_without_checkpoints_are_refused(constant_run, tmp_path):
    shutil.copytree(constant_run, tmp_path / "run")
    for words in (["stage1.trainer.max_steps=5"], ["stage1.trainer.max_steps=10", "stage1.trainer.validate_every=2"]):
        with pytest.raises(ValueError, match="of other settings"):
            train_stage1(asked(tmp_path / "run", *words))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match=r"stage1.trainer.max_steps: 6, now 10\)"):
        train_stage1(asked(tmp_path / "run", "stage1.trainer.max_steps=10"))
    assert fingerprint(tmp_path / "run" / "tokenizer") == fingerprint(constant_run / "tokenizer")


def test_the_end_of_a_longer_schedule_is_said(constant_run, tmp_path, capsys):
    cosine = [*TINY, "hardware=cpu", f"output={tmp_path}", "stage1.optimization.learning_rate=1e-2"]
    cosine.append("stage1.optimization.warmup_steps=0")
    train_stage1(compose(*cosine))
    capsys.readouterr()
    train_stage1(compose(*cosine, "stage1.trainer.max_steps=12"))
    # Half of the way there: 0.01 + 0.99 / 2 of the rate.
    assert "the learning rate, 0.0001 there, is 0.00505 now" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("stage", "product"), [("stage1", "tokenizer"), ("stage2", "prior")])
def test_a_set_aside_that_is_killed_anywhere_is_completed(constant_run, tmp_path, monkeypatch, stage, product):
    rename = Path.rename
    for last in itertools.count():
        folder = tmp_path / str(last)
        shutil.copytree(constant_run, folder)
        done = itertools.count()

        def killed_before(path, target, done=done, last=last):
            if next(done) == last:
                raise Killed
            return rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed_before)
            try:
                go_further(RunFolder(folder), claim_of(stage, folder), Optimization(1e-3))
            except Killed:
                pass
            else:
                break
        go_further(RunFolder(folder), claim_of(stage, folder), Optimization(1e-3))
        aside = folder / f"{product}-of-6-steps"
        assert [path.name for path in folder.glob("*-of-*")] == [aside.name], last
        assert Generator.load(aside).fingerprint == Generator.load(constant_run).fingerprint, last
        assert (aside / "samples" / "images.npz").is_file(), last
        assert not (folder / product).exists(), last
    assert last >= 4


def test_more_steps_of_a_training_that_was_stopped_set_nothing_aside(constant_run, tmp_path, capsys):
    run = RunFolder(tmp_path / "stopped")
    for folder in ("tokenizer", "checkpoints/stage1"):
        shutil.copytree(constant_run / folder, run.path / folder)
    for path in run.tokenizer.iterdir():
        if path.name not in ("settings.yaml", "data.yaml"):
            path.unlink()
    step_path(run.checkpoints("stage1"), 6).unlink()
    train_stage1(asked(run.path, "stage1.trainer.max_steps=10"))
    said = " ".join(capsys.readouterr().out.split())
    assert "goes on from step " in said
    assert "goes on from step 6" not in said
    assert not [*run.path.glob("tokenizer-of-*")]
    train_stage1(asked(tmp_path / "from_start", "stage1.trainer.max_steps=10"))
    assert fingerprint(run.tokenizer) == fingerprint(tmp_path / "from_start" / "tokenizer")
