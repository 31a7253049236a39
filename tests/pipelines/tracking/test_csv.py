import pytest
import torch

from pipelines.tracking.csv import Csv, MetricsFile, read_metrics
from pipelines.tracking.job import Job


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "run", "stage1", "run", "run", {"seed": 3, "nested": {"lr": 0.1}})


def test_metrics_read_back_exactly(job):
    logger = MetricsFile(job)
    logger.log_metrics({"train/loss": 1 / 3, "epoch": 0}, 5)
    logger.log_metrics({"train/loss": torch.tensor(0.25), "validation/psnr": 20.5}, 10)
    assert read_metrics(job.folder) == {"stage1": {"train/loss": {5: 1 / 3, 10: 0.25}, "validation/psnr": {10: 20.5}}}


def test_a_stage_that_goes_on_adds_and_its_later_metrics_count(job):
    MetricsFile(job).log_metrics({"loss": 1.0}, 1)
    MetricsFile(job).log_metrics({"loss": 2.0}, 1)
    with (job.folder / "logs" / "metrics.csv").open("a") as file:
        file.write("stage1,2,loss,")  # a kill in the middle of a line
    assert read_metrics(job.folder)["stage1"]["loss"] == {1: 2.0}
    assert (job.folder / "logs" / "metrics.csv").read_text().count("step") == 1


def test_csv_is_the_metrics_file_alone(job):
    with Csv().track(job) as loggers:
        assert [type(logger) for logger in loggers] == [MetricsFile]


def test_nothing_to_read_where_nothing_was_logged(tmp_path):
    assert read_metrics(tmp_path) == {}
