import copy
import math

import pytest
import torch
from torch import nn

from pipelines.training import optimization
from pipelines.training.optimization import Optimization, has_fused_adamw


def test_warm_up_then_cosine_to_a_hundredth():
    chosen = Optimization(learning_rate=2.0, warmup_steps=10)
    assert chosen.factor(0, 100) == pytest.approx(0.1)
    assert chosen.factor(4, 100) < chosen.factor(9, 100)
    for step in (25, 50, 75):
        assert chosen.factor(step, 100) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * step / 100)) / 2)
    assert chosen.factor(100, 100) == pytest.approx(0.01)
    assert Optimization(1.0).factor(1, 1) == pytest.approx(0.01)
    assert Optimization(1.0, schedule="constant").factor(77, 100) == 1.0


def test_matrices_alone_are_decayed():
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    configured = Optimization(1e-3, weight_decay=0.1)(module, 10)
    decayed, others = configured["optimizer"].param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 1 for p in others["params"])


def test_vectors_alone_are_trained_too():
    matrices, vectors = adamw(nn.LayerNorm(2)).param_groups
    assert (len(matrices["params"]), len(vectors["params"])) == (0, 2)


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


def steps(optimizer, parameter, count):
    for number in range(count):
        parameter.grad = torch.full_like(parameter, 0.5 + number)
        optimizer.step()


def adamw(module, **options):
    return Optimization(0.1, schedule="constant", **options)(module, 10)["optimizer"]


def test_it_is_adamw_by_one_kernel_where_the_device_has_one():
    ours, plain = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
    plain.load_state_dict(ours.state_dict())
    optimizer = adamw(ours, betas=(0.8, 0.9), weight_decay=0.3)
    assert [group["fused"] for group in optimizer.param_groups] == [has_fused_adamw(torch.device("cpu"))] * 2
    # Expected by the paper's formulas, arXiv 1711.05101, algorithm 2.
    weight, mean, square = plain.weight.detach().double(), 0.0, 0.0
    for number in range(3):
        gradient = 0.5 + number
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        step = (mean / (1 - 0.8 ** (number + 1))) / (math.sqrt(square / (1 - 0.9 ** (number + 1))) + 1e-8)
        weight = weight - 0.1 * 0.3 * weight - 0.1 * step
    steps(optimizer, ours.weight, 3)
    torch.testing.assert_close(ours.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_a_state_goes_on_with_the_kernel_of_this_device(monkeypatch):
    """Version 0.1.0 saved states of torch's plain loop; a GPU's state may go on where there is no such kernel."""
    for before, after in [(False, True), (True, False)]:
        monkeypatch.setattr(optimization, "has_fused_adamw", lambda device, fused=before: fused)
        saved = nn.Linear(2, 2, bias=False)
        first = adamw(saved)
        steps(first, saved.weight, 2)
        state = copy.deepcopy(first.state_dict())
        assert state["param_groups"][0]["fused"] is before
        monkeypatch.setattr(optimization, "has_fused_adamw", lambda device, fused=after: fused)
        other = copy.deepcopy(saved)
        second = adamw(other)
        second.load_state_dict(state)
        assert [group["fused"] for group in second.param_groups] == [after] * 2
        steps(first, saved.weight, 2)
        steps(second, other.weight, 2)
        torch.testing.assert_close(other.weight, saved.weight)


def test_groups_without_a_kernel_stay_so():
    """Those of an optimiser beside AdamW."""
    state = {"state": {}, "param_groups": [{"lr": 1.0}, {"lr": 2.0, "fused": False}]}
    groups = optimization._on_this_device(True, adamw(nn.Linear(1, 1)), state)["param_groups"]
    assert groups == [{"lr": 1.0}, {"lr": 2.0, "fused": True}]


def test_a_device_without_the_kernel_is_found_out(monkeypatch):
    class Plain(torch.optim.SGD):
        def __init__(self, parameters, fused=None):
            if fused:
                raise RuntimeError("no such kernel")
            super().__init__(parameters)

    monkeypatch.setattr(torch.optim, "AdamW", Plain)
    assert not has_fused_adamw.__wrapped__(torch.device("cpu"))


def test_a_gradient_scaler_still_passes_steps_over():
    """It leaves that to an optimiser that says it is fused, whose step then always happens."""
    module = nn.Linear(2, 1, bias=False)
    optimizer = adamw(module)
    counted = []
    optimizer.register_step_post_hook(lambda *arguments: counted.append(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (1.0, float("inf")):
        before = module.weight.detach().clone()
        optimizer.zero_grad()
        scaler.scale(module(torch.full((1, 2), value)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(module.weight, before) == (value != 1.0)
    assert counted == [1]
