import pytest
import torch

from stage1_vqvae.devices import float64_device, in_float64, widest_float
from stage1_vqvae.likelihoods import Gaussian
from tests.support.no_float64 import NoFloat64, hide_float64

CPU = torch.device("cpu")


def test_a_device_is_asked_by_trying():
    assert widest_float(CPU) == torch.float64
    assert float64_device(CPU) == CPU
    assert widest_float(torch.device("mps")) == torch.float32  # not there, which also is a no
    assert in_float64(torch.tensor([True, False])).dtype == torch.float64


def test_sums_are_kept_where_float64_is(monkeypatch):
    hide_float64(monkeypatch)
    assert float64_device(torch.device("mps")) == CPU


def test_a_gaussian_likelihood_in_float32(monkeypatch):
    hide_float64(monkeypatch)
    outputs = torch.randn(2, Gaussian(2).outputs(1), 3, 3, generator=torch.Generator().manual_seed(0))
    images = torch.linspace(-1, 1, 18).view(2, 1, 3, 3)
    found = {}
    for name in ("float32", "float64"):
        given = outputs.clone().requires_grad_()
        if name == "float32":
            with NoFloat64():
                nats = Gaussian(2).nats(given, images)
                nats.sum().backward()
        else:
            monkeypatch.undo()
            nats = Gaussian(2).nats(given, images)
            nats.sum().backward()
        found[name] = (nats.detach().numpy(), given.grad.numpy())
    for one, other in zip(found["float32"], found["float64"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)
