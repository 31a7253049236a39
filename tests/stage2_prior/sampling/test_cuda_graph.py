import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.cuda_graph import CUDAGraphs, Recordings, new_pool, release
from stage2_prior.transformer.model import Transformer
from tests.support.graph_emulator import Recording, emulate, move


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replays_are_the_function():
    x = torch.arange(4.0, device="cuda")
    calls = []

    def power(exponent):
        calls.append(exponent)
        return x**exponent

    graphs = CUDAGraphs(new_pool())
    found = []
    for start in (0.0, 1.0, 2.0):
        x.copy_(torch.arange(4.0) + start)
        found.append([graphs(power, exponent) for exponent in (1, 2)])
    recorded = len(calls)
    for start, results in enumerate(found):
        for exponent, result in zip((1, 2), results, strict=True):
            assert torch.equal(result.cpu(), (torch.arange(4.0) + start) ** exponent)
    graphs(power, 1)
    assert len(calls) == recorded


def test_the_emulator_reads_addresses_and_not_tensors():
    """What a GPU would read of a parameter that has moved: what lies where it was."""
    linear, x = torch.nn.Linear(2, 3), torch.ones(1, 2)
    with torch.no_grad(), Recording() as recording:
        result = linear(x)
    first = result.clone()
    x.mul_(2)
    recording.replay()
    torch.testing.assert_close(result, 2 * first - linear.bias.data)
    move(linear)
    recording.replay()
    assert result.isnan().all()


class User:
    pass


@pytest.fixture
def recordings(monkeypatch):
    emulate(monkeypatch)
    return Recordings.of(torch.nn.Linear(1, 1))


def test_a_borrowed_step_is_nobody_elses_and_comes_back(recordings):
    users, renewed = [User(), User()], []
    first, second = (recordings.borrow(user, "a", User, renewed.append) for user in users)
    assert first is not second
    assert renewed == []
    del users[0]
    user = User()
    assert recordings.borrow(user, "a", User, renewed.append) is first
    assert renewed == [first]


def test_steps_of_the_last_key_alone_are_kept(recordings):
    user, other = User(), User()
    recordings.borrow(user, "a", User, None)
    del user
    assert len(recordings.free["a"]) == 1
    recordings.borrow(other, "b", User, None)
    assert set(recordings.free) == {"b"}


def test_recordings_share_a_pool_and_weights_and_are_released(monkeypatch):
    emulate(monkeypatch)
    model = Transformer(CodeLayout(((2, 2),), (5,)), 2, width=8, layers=1, heads=2).eval()
    one, two = (model.incremental(torch.tensor([0] * batch)).step for batch in (1, 2))
    kept = Recordings.of(model)
    assert one.weights is two.weights is kept.weights
    assert one.graphs.pool is two.graphs.pool is kept.pool
    release(model)
    assert Recordings.of(model) is not kept
