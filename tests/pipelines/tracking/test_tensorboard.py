import numpy as np
import pytest
from PIL import Image

from pipelines.tracking.csv import read_metrics
from pipelines.tracking.job import Job
from pipelines.tracking.tensorboard import TensorBoard


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "run", "stage1", "run", "run", {"seed": 3, "nested": {"lr": 0.1}})


def test_tensorboard_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("pipelines.tracking.tensorboard.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'vqvae-prior\[tensorboard\]'"):
        TensorBoard()


def test_tensorboard_takes_metrics_images_and_histograms(job):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoard().track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"train/loss": 0.5}, 3)
        loggers[1].log_image("samples", [Image.new("L", (4, 4))], 3)
        loggers[1].log_histogram("codebook", np.array([3, 0, 5]), 3)
    assert read_metrics(job.folder)["stage1"]["train/loss"] == {3: 0.5}
    found = EventAccumulator(str(job.folder / "logs" / "tensorboard" / "stage1")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(3, 0.5)]
    assert found.Tags()["images"] == ["samples"]
    assert found.Histograms("codebook")[0].histogram_value.num == 8


def test_a_tensorboard_that_fails_costs_nothing(job, capfd):
    pytest.importorskip("tensorboard")
    (job.folder / "logs").mkdir(parents=True)
    (job.folder / "logs" / "tensorboard").write_text("a file where a folder belongs")
    with TensorBoard().track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"train/loss": 0.5}, 3)
            logger.finalize("success")
    assert read_metrics(job.folder)["stage1"]["train/loss"] == {3: 0.5}
    assert capfd.readouterr().err.count("warning: TensorBoardRunLogger stopped (") == 1
