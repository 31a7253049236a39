"""A device that has no float64, as Apple's GPUs, on the CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stage1_vqvae import devices
from stage1_vqvae.devices import widest_float


class NoFloat64(TorchDispatchMode):
    """Refuses every operation that makes a float64 tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        wide = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64]
        if wide:
            raise TypeError(f"{func}: no float64 here")
        return result


def hide_float64(monkeypatch):
    """The CPU is said to have no float64; :class:`NoFloat64` holds that it is believed."""
    monkeypatch.setattr(devices, "_has_float64", lambda device_type: False)
    assert widest_float(torch.device("cpu")) == torch.float32
