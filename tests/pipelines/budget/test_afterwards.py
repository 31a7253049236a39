"""The progress of stage one says how long stage two takes after it."""

import pytest

from pipelines.budget import afterwards
from pipelines.budget.afterwards import before_stage2, seconds_of_stage2
from stage1_vqvae.progress import Progress
from tests.support.tiny import TINY, compose


def settings(output, steps):
    more = ("stage2.trainer.accumulate_grad_batches=3", "hardware=cpu")
    return compose(*TINY, f"stage2.trainer.max_steps={steps}", f"output={output}", *more)


def test_the_time_is_that_of_all_batches(monkeypatch, tmp_path):
    monkeypatch.setattr(afterwards, "seconds_per_step", lambda step, device: step() or 0.5)  # it can be taken
    with before_stage2(settings(tmp_path, 1000)):
        assert Progress.afterwards == ("stage 2", 0.5 * 1000 * 3)
    assert Progress.afterwards == ("", 0.0)


def test_nothing_is_timed_for_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(afterwards, "seconds_per_step", lambda step, device: pytest.fail("it was timed"))
    assert seconds_of_stage2(settings(tmp_path, 50)) == 0
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "config.yaml").touch()
    with before_stage2(settings(tmp_path, 1000)):
        assert Progress.afterwards == ("", 0.0)


def test_a_prior_that_does_not_fit_is_no_fault_of_the_estimate(monkeypatch, tmp_path):
    def full(step, device):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(afterwards, "seconds_per_step", full)
    assert seconds_of_stage2(settings(tmp_path, 1000)) == 0
