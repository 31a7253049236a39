import hashlib
import os
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pipelines.training.checkpoint_files import VerifiedIO, load_checkpoint, newest, step_path, steps_in
from tests.support.resuming import assert_same, final_state, prior_training, train


def write(folder, *steps, **more):
    for step in steps:
        VerifiedIO().save_checkpoint(
            {"format": 1, "step": step, "w": torch.arange(100.0), **more}, step_path(folder, step)
        )


def test_written_beside_with_a_digest_that_sha256sum_reads(tmp_path):
    write(tmp_path, 2, 4)
    assert steps_in(tmp_path) == [4, 2]
    assert load_checkpoint(step_path(tmp_path, 4))["step"] == 4
    path = step_path(tmp_path, 2)
    assert Path(f"{path}.sha256").read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert len(list(tmp_path.iterdir())) == 4
    VerifiedIO().remove_checkpoint(path)
    assert len(list(tmp_path.iterdir())) == 2


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_and_every_cut_is_seen_and_the_one_before_is_taken(tmp_path):
    write(tmp_path, 2, 4)
    path = step_path(tmp_path, 4)
    whole = path.read_bytes()
    for place in range(60):
        flip(path, (place * 7919) % (8 * len(whole)))
        found = newest(tmp_path)
        assert found.step == 2
        assert "step-00000004.ckpt is damaged" in found.passed_over[0]
        path.write_bytes(whole)
    for place in range(20):
        path.write_bytes(whole[: place * len(whole) // 20])
        assert newest(tmp_path).step == 2
    path.write_bytes(whole)
    assert newest(tmp_path).step == 4
    digest = Path(f"{path}.sha256")
    for bit in range(0, 8 * 64, 37):
        text = digest.read_bytes()
        flip(digest, bit)
        assert newest(tmp_path).step == 2
        digest.write_bytes(text)
    digest.unlink()
    assert newest(tmp_path).passed_over == (f"{path} has no readable SHA-256 beside it",)


def test_when_none_is_whole_the_training_is_not_begun_again(tmp_path):
    write(tmp_path, 2, 4)
    for step in (2, 4):
        flip(step_path(tmp_path, step), 1000)
    with pytest.raises(ValueError, match=r"step-00000004.*step-00000002.*no checkpoint is whole.*remove") as caught:
        newest(tmp_path)
    assert "\n" not in str(caught.value)
    assert newest(tmp_path / "none").step is None


def test_a_training_goes_on_from_the_one_before_to_the_same_bits(tmp_path, capsys):
    train(prior_training(), tmp_path / "whole")
    train(prior_training(), tmp_path / "damaged", max_steps=7)
    flip(step_path(tmp_path / "damaged", 7), 9000)
    train(prior_training(), tmp_path / "damaged", max_steps=7)
    assert "passed over" in capsys.readouterr().out
    train(prior_training(), tmp_path / "again", max_steps=7)
    assert_same(final_state(tmp_path / "damaged"), final_state(tmp_path / "again"))


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("how", ["checkpoint", "pickle"])
def test_code_in_a_checkpoint_never_runs(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = step_path(tmp_path, 3)
    VerifiedIO().save_checkpoint({"format": 1, "evil": Payload()}, path)
    if how == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
        Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="holds more than plain data and tensors"):
        load_checkpoint(path)
    assert not Path("ran").exists()


def test_another_format_is_refused(tmp_path):
    VerifiedIO().save_checkpoint({"format": 7}, step_path(tmp_path, 1))
    with pytest.raises(ValueError, match="format 1 expected, found 7"):
        load_checkpoint(step_path(tmp_path, 1))


@contextmanager
def files_of_at_most(size):
    """What a full disk does to a writer: files of this process end at a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("step", [2, 4])
def test_a_full_disk_leaves_what_was_there(step, tmp_path):
    write(tmp_path, step)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"step-00000002.ckpt cannot be written \(File too large\): make room"
    with files_of_at_most(2**20), pytest.raises(OSError, match=message):
        write(tmp_path, 2, big=torch.zeros(2**20))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
