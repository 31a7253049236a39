import json

import pytest

from pipelines.artifacts.run_folder import RunFolder
from pipelines.tracking.metrics import DEFAULT, GOALS, MEANINGS, final_metrics, goal, objective_value, objectives


@pytest.fixture
def run(tmp_path):
    """A run's folder with metrics of a tokenizer of two grids and of a prior."""
    metrics = {"tokenizer": {"mse": 0.5, "usage_0": 0.25, "usage_1": 1}, "prior": {"nats": 2.5, "bits": 3.6}}
    for folder, values in metrics.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.json").write_text(json.dumps(values))
    return RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("stage1.psnr", "max"), ("stage2.nats", "min"), ("stage1.usage_1", "max"), ("stage2.uniform_nats", None)],
)
def test_which_way_a_metric_is_better(name, expected):
    assert goal(name) == expected


def test_every_metric_with_a_goal_has_a_meaning():
    assert {name.partition(".")[2] for name in GOALS} <= set(MEANINGS)
    assert set(DEFAULT) <= set(GOALS)


def test_final_metrics_are_of_the_models_that_are_finished(run):
    expected = {"stage1.mse": 0.5, "stage1.usage_0": 0.25, "stage1.usage_1": 1.0}
    assert final_metrics(run) == {**expected, "stage2.nats": 2.5, "stage2.bits": 3.6}
    (run.prior / "metrics.json").unlink()
    assert final_metrics(run) == expected


def test_the_objective_is_the_priors_or_else_the_tokenizers(run):
    settings = {"output": str(run.path), "objective": None}
    assert objective_value(settings) == 2.5
    (run.prior / "metrics.json").unlink()
    assert objective_value(settings) == 0.5
    (run.tokenizer / "metrics.json").unlink()
    assert objective_value(settings) is None


def test_several_objectives_are_a_tuple_in_their_order(run):
    settings = {"output": str(run.path), "objective": ["stage1.usage_1", "stage2.bits"]}
    assert objective_value(settings) == (1.0, 3.6)


def test_an_objective_that_no_command_makes_is_refused():
    assert objectives(None) == []
    assert objectives("stage2.nats") == ["stage2.nats"]
    with pytest.raises(ValueError, match=r"objective: no metric 'stage1.pnsr'; did you mean stage1.psnr\?"):
        objectives(["stage2.nats", "stage1.pnsr"])
