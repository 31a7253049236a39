import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.tracking import Csv, Job, MetricsFile, Wandb, log_picture, read_metrics


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "run", "stage1", "run", {"seed": 3, "nested": {"lr": 0.1}})


def test_figures_read_back_exactly(job):
    logger = MetricsFile(job)
    logger.log_metrics({"train/loss": 1 / 3, "epoch": 0}, 5)
    logger.log_metrics({"train/loss": torch.tensor(0.25), "validation/psnr": 20.5}, 10)
    assert read_metrics(job.folder) == {"stage1": {"train/loss": {5: 1 / 3, 10: 0.25}, "validation/psnr": {10: 20.5}}}


def test_a_stage_that_goes_on_adds_and_its_later_figures_count(job):
    MetricsFile(job).log_metrics({"loss": 1.0}, 1)
    MetricsFile(job).log_metrics({"loss": 2.0}, 1)
    with (job.folder / "logs" / "metrics.csv").open("a") as file:
        file.write("stage1,2,loss,")  # a kill in the middle of a line
    assert read_metrics(job.folder)["stage1"]["loss"] == {1: 2.0}
    assert (job.folder / "logs" / "metrics.csv").read_text().count("step") == 1


def test_csv_is_the_metrics_file_alone(job):
    with Csv().track(job) as loggers:
        assert [type(logger) for logger in loggers] == [MetricsFile]


def test_no_figures_where_nothing_was_logged(tmp_path):
    assert read_metrics(tmp_path) == {}


def read_wandb(folder):
    """What wandb's own reader finds in the one offline run of a folder."""
    (run,) = (folder / "logs" / "wandb").glob("offline-run-*")
    return run, subprocess.run(
        [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_wandb_writes_offline_and_continues_its_run(job, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with Wandb().track(job) as loggers:
        loggers[1].log_metrics({"loss": 0.5}, 1)
        log_picture(loggers, "samples", Image.new("L", (4, 4)), 1)
    import wandb

    assert wandb.run is None
    run, shown = read_wandb(job.folder)
    for expected in ("stage1", '"run"', "loss"):
        assert expected in shown
    assert list(run.glob("files/media/images/*.png"))
    (kept,) = json.loads((job.folder / "logs" / "wandb_ids.json").read_text()).values()
    assert run.name.endswith(kept)
    with Wandb().track(job) as loggers:
        assert loggers[1].version == kept


def test_wandb_can_be_switched_off(job):
    with Wandb(mode="disabled").track(job) as loggers:
        assert len(loggers) == 1
    assert not (job.folder / "logs").exists()
