from dataclasses import replace

import pytest

from pipelines.sweep.launch import Launch
from pipelines.tracking.job import LONGEST_NAME, Job


@pytest.fixture
def job(tmp_path):
    return Job.of(tmp_path / "run", "stage1", {})


def test_a_part_of_a_prior_is_tracked_as_its_stage(job):
    assert replace(job, stage="stage2.1").kind == "stage2"
    assert job.kind == "stage1"


def test_a_run_is_named_after_its_folder(tmp_path):
    job = Job.of(tmp_path / "run", "stage1", {})
    assert (job.group, job.name) == ("run", "run")


def test_jobs_of_a_sweep_are_one_group_and_their_names_tell_what_differs(tmp_path):
    overrides = ["experiment=mnist5k", "output=runs/lr", "stage1.optimization.learning_rate=0.001", "seed=2"]
    settings = {"sweep": {"folder": str(tmp_path / "lr"), "number": 3, "overrides": overrides}}
    job = Job.of(tmp_path / "lr" / "3", "stage1", settings)
    assert job.group == "lr"
    assert job.name == "lr-3 stage1.optimization.learning_rate=0.001 seed=2"
    settings["sweep"]["overrides"] = ["stage1.model.width=" + "1" * 200]
    assert len(Job.of(tmp_path / "lr" / "3", "stage1", settings).name) == LONGEST_NAME


def test_what_is_swept_over_comes_into_the_name_before_all_else(tmp_path):
    overrides = ["experiment=mnist5k", "stage1.model.width=8", "stage1/quantizer=fsq", "+stage2.model.layers=2"]
    settings = {"sweep": {"folder": str(tmp_path / "s"), "number": 0, "overrides": overrides}}
    Launch("1", 4, ("stage1/quantizer", "stage2.model.layers")).begin()
    try:
        assert (
            Job.of(tmp_path / "s" / "0", "stage1", settings).name == "s-0 stage1/quantizer=fsq +stage2.model.layers=2"
        )
    finally:
        Launch.end()


def test_secrets_do_not_reach_trackers(tmp_path):
    settings = {"token": "abc", "sweep": {"folder": "lr", "number": 0, "overrides": ["data.token=abc", "seed=1"]}}
    job = Job.of(tmp_path / "lr" / "0", "stage1", settings)
    assert job.config["token"] == "<redacted>"
    assert job.name == "lr-0 data.token=<redacted> seed=1"


@pytest.mark.parametrize(
    ("settings", "judged"),
    [
        ({"command": "run", "objective": None}, "stage2"),
        ({"command": "run", "objective": "stage1.psnr"}, "stage1"),
        ({"command": "run", "objective": ["stage2.nats", "stage1.psnr"]}, "stage2"),
        ({"command": "train_stage2", "objective": None}, "stage2"),
        ({"command": "train_stage1", "objective": None}, "stage1"),
    ],
)
def test_a_run_is_judged_by_the_stage_of_its_objective(settings, judged, tmp_path):
    stages = ("stage1", "extract", "stage2", "stage2.0", "sample")
    primary = {stage for stage in stages if Job.of(tmp_path, stage, settings).primary}
    assert primary == {stage for stage in stages if stage.startswith(judged)}
