import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from pipelines.artifacts.links import link_tree
from pipelines.artifacts.run_folder import RunFolder
from pipelines.distributed.locks import try_lock
from pipelines.generator import Generator
from pipelines.sweep import adoption, shared_stage1
from pipelines.sweep.adoption import digest, held
from pipelines.sweep.shared_stage1 import adopt_codes, share_stage1
from tests.support.tiny import TINY, compose


def job(sweep, number, *overrides):
    settings = compose(*TINY, f"output={sweep / str(number)}", *overrides)
    return {**settings, "sweep": {"folder": str(sweep), "number": number, "overrides": []}}


@pytest.fixture
def sweep(tmp_path, tiny_run, monkeypatch):
    """A sweep whose shared tokenizers and codes are copies of a finished run's; gives its folder and what was made."""
    made = []

    def make(part):
        def copy(settings, images):
            target = RunFolder(tmp_path / settings["output"]).path / part
            made.append(target)
            if not target.exists():
                shutil.copytree(tiny_run / part, target)

        return copy

    monkeypatch.setattr(shared_stage1, "train_stage1", make("tokenizer"))
    monkeypatch.setattr(shared_stage1, "extract_codes", make("codes"))
    return tmp_path / "sweep", made


def test_jobs_of_one_stage_one_have_one_tokenizer(sweep):
    folder, made = sweep
    share_stage1(job(folder, 0), None)
    share_stage1(job(folder, 1, "stage2.batch_size=32", "n=3", "stage2.model.width=32"), None)
    assert len(set(made)) == 2
    share_stage1(job(folder, 2, "stage1.quantizer.decay=0.5"), None)
    assert len(set(made)) == 4
    share_stage1(job(folder, 3, "codes.copies=2"), None)  # the first tokenizer, other codes
    assert len(set(made)) == 5
    inodes = [(folder / str(n) / "tokenizer" / "model.safetensors").stat().st_ino for n in range(4)]
    assert inodes[0] == inodes[1] == inodes[3] != inodes[2]


def test_stage_one_depends_on_its_own_seed(sweep):
    folder, made = sweep
    for number, words in enumerate((["seed=0"], ["stage2.seed=5"], ["seed=5", "stage1.seed=0"])):
        share_stage1(job(folder, number, *words), None)
    assert len(set(made)) == 2
    share_stage1(job(folder, 3, "seed=5"), None)
    assert len(set(made)) == 4


def test_a_job_of_its_own_is_left_alone(sweep):
    folder, made = sweep
    alone = job(folder, 0)
    share_stage1({**alone, "sweep": None}, None)
    (folder / "0" / "tokenizer").mkdir(parents=True)  # begun outside of a sweep
    share_stage1(alone, None)
    assert made == []


def test_a_jobs_folder_is_complete_without_the_shared_one(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "shared")
    target = RunFolder(tmp_path / "job")
    adopt_codes(RunFolder(tmp_path / "shared"), target)
    shutil.copytree(tiny_run / "prior", target.prior)
    shutil.rmtree(tmp_path / "shared")
    assert Generator.load(target.path).sample(2).images.shape == (2, 1, 28, 28)
    assert (target.path / "logs" / "metrics.csv").exists()
    assert list(target.pictures("stage1").iterdir())


def test_what_is_there_is_kept(tiny_run, tmp_path):
    target = RunFolder(tmp_path / "job")
    target.tokenizer.mkdir(parents=True)
    adopt_codes(RunFolder(tiny_run), target)
    assert list(target.tokenizer.iterdir()) == []


def test_disks_without_links_get_copies(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError("cross-device")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    link_tree(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c" / "b" / "file").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()].count("c") == 1


def test_digests_are_of_content():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({})) == 12


def test_others_wait_until_the_owner_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(adoption, "PAUSE", 0.01)
    order = []

    def second():
        with held(tmp_path / "lock", "it"):
            order.append("second")

    with held(tmp_path / "lock", "it"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_owner_blocks_nobody(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from pipelines.distributed.locks import try_lock\n"
        "with try_lock(Path(sys.argv[1])) as mine:\n    print(mine, flush=True)\n    time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline().strip() == "True"
    with try_lock(tmp_path / "lock") as mine:
        assert not mine
    owner.kill()
    owner.wait()
    with held(tmp_path / "lock", "it"), try_lock(tmp_path / "lock") as mine:
        assert not mine
    with try_lock(tmp_path / "lock") as mine:
        assert mine
