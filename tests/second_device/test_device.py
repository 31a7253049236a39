"""What the second device sees, and what it lets pass."""

import pytest
import torch

from tests.second_device.device import DeviceMix, FakeDevice, HostSynchronisation

pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason="the accelerator of this machine runs instead")


@pytest.fixture
def fake():
    return FakeDevice()


HELD = torch.zeros(4)
WAITS = {
    "item": lambda x, mask: x.sum().item(),
    "bool": lambda x, mask: bool(mask.any()),
    "int": lambda x, mask: int(mask.sum()),
    "list": lambda x, mask: x.tolist(),
    "nonzero": lambda x, mask: mask.nonzero(),
    "mask": lambda x, mask: x[mask],
    "values put by a mask": lambda x, mask: x.__setitem__(mask, x[:2]),
    "bincount": lambda x, mask: torch.bincount(mask.long(), minlength=9),
    "unique": lambda x, mask: x.unique(),
    "equal": lambda x, mask: torch.equal(x, x),
    "repeats on the device": lambda x, mask: x.repeat_interleave(mask.long()),
    "to the CPU": lambda x, mask: x.cpu(),
    "from the CPU": lambda x, mask: torch.zeros(3).to(x.device),
    "new tensor": lambda x, mask: torch.tensor([1.0, 2.0], device=x.device),
    "copied in": lambda x, mask: x.copy_(torch.zeros(4)),
    "index on the CPU": lambda x, mask: x[torch.tensor([0, 1])],
    "a list as index": lambda x, mask: x[[0, 1]],
    "in the backward pass": lambda x, mask: Reads.apply(x.requires_grad_()).sum().backward(),
}
RUNS = {
    "product": lambda x, mask: x @ x,
    "masked": lambda x, mask: x.masked_fill(mask, 0).sum(),
    "one value put by a mask": lambda x, mask: x.__setitem__(mask, 0.0),
    "where": lambda x, mask: torch.where(mask, x, 0),
    "number of the CPU": lambda x, mask: x + torch.tensor(2.0),
    "random": lambda x, mask: torch.rand_like(x) + torch.rand(4, device=x.device),
    "copy that does not block": lambda x, mask: torch.zeros(3).to(x.device, non_blocking=True),
    "index on the device": lambda x, mask: x[torch.arange(3, device=x.device)],
    "values of the CPU read there": lambda x, mask: torch.tensor(3).item(),
    "autocast": lambda x, mask: torch.autocast(x.device.type, torch.bfloat16)(torch.matmul)(x, x),
}
MIXES = {
    "sum": lambda x, mask: x + torch.zeros(4),
    "where": lambda x, mask: torch.where(mask, x, torch.zeros(4)),
    "generator": lambda x, mask: torch.rand(4, generator=torch.Generator(), device=x.device),
    "held on the CPU": lambda x, mask: x * HELD,
}


class Reads(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * gradient.sum().item()


def arguments(fake):
    return fake.put(torch.zeros(4)), fake.put(torch.zeros(4, dtype=torch.bool))


@pytest.mark.parametrize("name", WAITS)
def test_a_host_that_waits_is_seen(name, fake):
    x, mask = arguments(fake)
    with fake.running(), pytest.raises(HostSynchronisation):
        WAITS[name](x, mask)


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_of_devices_is_seen(name, fake):
    x, mask = arguments(fake)
    with fake.running(), pytest.raises(DeviceMix):
        MIXES[name](x, mask)


@pytest.mark.parametrize("name", RUNS)
def test_what_does_neither_passes(name, fake):
    x, mask = arguments(fake)
    with fake.running():
        RUNS[name](x, mask)


def test_a_module_that_leaves_a_tensor_behind_is_seen(fake):
    class Forgets(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(4))
            self.scale = torch.ones(4)

        def forward(self, x):
            return x * self.weight * self.scale

    module, x = fake.put(Forgets()), fake.put(torch.zeros(4))
    with fake.running(), pytest.raises(DeviceMix):
        module(x)


def test_no_other_test_sees_the_device(fake):
    with fake.running():
        assert torch.accelerator.is_available()
    assert not torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator(check_available=True) is None
