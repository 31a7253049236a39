import pytest
import torch

from stage2_prior.cuda_graph import CUDAGraphs


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
