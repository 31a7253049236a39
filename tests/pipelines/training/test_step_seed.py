from types import SimpleNamespace

import numpy as np
import torch

from pipelines.training.step_seed import StepSeed

CPU = SimpleNamespace(device=torch.device("cpu"))


def drawn(seed, batch, rank):
    torch.rand(7)  # whatever was drawn before
    StepSeed(seed).on_train_batch_start(SimpleNamespace(global_rank=rank), CPU, None, batch)
    return torch.rand(3).tolist()


def test_numbers_are_a_function_of_seed_batch_and_rank():
    places = [(seed, batch, rank) for seed in (0, 5) for batch in (0, 1, 2) for rank in (0, 1)]
    numbers = {place: drawn(*place) for place in places}
    assert len({tuple(value) for value in numbers.values()}) == len(places)
    assert all(drawn(*place) == value for place, value in numbers.items())


def test_they_are_those_of_torchs_own_seed():
    """As in version 0.1.0: trainings that it began go on with the numbers that they would have had."""
    found = drawn(5, 2, 1)
    torch.manual_seed(int(np.random.SeedSequence((5, 2, 1)).generate_state(1, np.uint64)[0] >> 1))
    assert torch.rand(3).tolist() == found


def test_another_device_gets_the_same_seed(monkeypatch):
    device, seeds = torch.device("meta"), []
    monkeypatch.setattr(torch, "get_device_module", {device: SimpleNamespace(manual_seed=seeds.append)}.get)
    StepSeed(5).on_train_batch_start(SimpleNamespace(global_rank=1), SimpleNamespace(device=device), None, 2)
    assert seeds == [torch.default_generator.initial_seed()]
