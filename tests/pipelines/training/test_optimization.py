import pytest
import torch
from torch import nn

from pipelines.training.optimization import Optimization


def test_warm_up_then_cosine_to_a_hundredth():
    chosen = Optimization(learning_rate=2.0, warmup_steps=10)
    assert chosen.factor(0, 100) == pytest.approx(0.1)
    assert chosen.factor(4, 100) < chosen.factor(9, 100)
    assert chosen.factor(50, 100) == pytest.approx(0.505)
    assert chosen.factor(100, 100) == pytest.approx(0.01)
    assert Optimization(1.0, schedule="constant").factor(77, 100) == 1.0


def test_matrices_alone_are_decayed():
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    configured = Optimization(1e-3, weight_decay=0.1)(module, 10)
    decayed, others = configured["optimizer"].param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 1 for p in others["params"])


def test_schedule_sets_the_learning_rate():
    module = nn.Linear(1, 1)
    configured = Optimization(0.5, warmup_steps=2)(module, 4)
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        module(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.25)
    assert rates[1] > rates[2] > rates[3]


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0}, {"learning_rate": 1, "schedule": "linear"}, {"learning_rate": 1, "warmup_steps": -1}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"learning_rate|schedule|warmup_steps"):
        Optimization(**wrong)
