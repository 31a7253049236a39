import pytest
import torch

from pipelines.distributed.devices import find_device, has_bfloat16
from stage1_vqvae import devices
from stage1_vqvae.devices import widest_float


def test_a_device_by_name(here):
    here("cuda", 2, current=1)
    assert find_device() == find_device("auto") == find_device("gpu") == find_device("cuda") == torch.device("cuda", 1)
    assert find_device("cuda:0") == find_device(torch.device("cuda", 0)) == torch.device("cuda", 0)
    assert find_device("cpu") == torch.device("cpu")
    here(None)
    assert find_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (None, "cuda", r"^no cuda device was found on this machine, only the CPU$"),
        (None, "gpu", r"^no gpu device was found on this machine, only the CPU$"),
        ("mps", "cuda:1", r"^no cuda device was found on this machine, only mps and the CPU$"),
        ("cuda", "cuda:2", r"^this machine has no cuda:2, only cuda:0 to cuda:1$"),
        ("cuda", "cuda:x", r"^this machine has no cuda:x, only cuda:0 to cuda:1$"),
        ("cuda", "nonsense", r"^no nonsense device was found on this machine, only cuda and the CPU$"),
    ],
)
def test_a_device_that_is_not_here_is_named(here, kind, name, message):
    here(kind, 2)
    with pytest.raises(ValueError, match=message):
        find_device(name)


def test_bfloat16_is_tried(monkeypatch):
    has_bfloat16.cache_clear()
    assert has_bfloat16("cpu")
    has_bfloat16.cache_clear()
    monkeypatch.setattr(torch, "autocast", lambda *_: (_ for _ in ()).throw(RuntimeError("unsupported")))
    assert not has_bfloat16("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not has_bfloat16("cuda")  # emulated
    has_bfloat16.cache_clear()


def test_the_widest_float_is_tried(monkeypatch):
    devices._has_float64.cache_clear()
    assert widest_float(torch.device("cpu")) == torch.float64

    def zeros(*shape, dtype, device):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    monkeypatch.setattr(torch, "zeros", zeros)
    assert widest_float(torch.device("mps")) == torch.float32
    devices._has_float64.cache_clear()
