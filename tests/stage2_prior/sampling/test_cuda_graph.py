import gc

import pytest
import torch

from stage2_prior.sampling.cuda_graph import CUDAGraphs, on_loan


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replays_are_the_function():
    x = torch.arange(4.0, device="cuda")
    calls = []

    def power(exponent):
        calls.append(exponent)
        return x**exponent

    graphs = CUDAGraphs(power)
    found = []
    for start in (0.0, 1.0, 2.0):
        x.copy_(torch.arange(4.0) + start)
        found.append([graphs(exponent) for exponent in (1, 2)])
    recorded = len(calls)
    for start, results in enumerate(found):
        for exponent, result in zip((1, 2), results, strict=True):
            assert torch.equal(result.cpu(), (torch.arange(4.0) + start) ** exponent)
    graphs(1)
    assert len(calls) == recorded


def test_what_is_on_loan_is_nobody_elses_and_comes_back():
    class User:
        pass

    owner, other, users, renewed = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), [User(), User(), User()], []

    def borrow(user, owner, key="a"):
        return on_loan(user, owner, key, list, renewed.append)

    first, second, third = borrow(users[0], owner), borrow(users[1], owner), borrow(users[2], owner, "b")
    assert len({id(first), id(second), id(third)}) == 3
    assert renewed == []
    del users[0]
    gc.collect()
    user = User()
    assert borrow(user, other) is not first
    assert borrow(user, owner, "b") is not first
    assert renewed == []
    assert borrow(user, owner) is first
    assert renewed == [first]
