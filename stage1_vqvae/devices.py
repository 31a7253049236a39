"""What a device can compute in, found out by trying it once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def _has_float64(device_type: str) -> bool:
    try:
        torch.zeros((), dtype=torch.float64, device=device_type)
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def widest_float(device: torch.device) -> torch.dtype:
    """The widest float of a device: float64, or float32 where it has none, as on Apple's GPUs (MPS).

    Codes are drawn in it: positions in a cumulative distribution are sums of many small numbers.
    """
    return torch.float64 if _has_float64(device.type) else torch.float32


def float64_device(device: torch.device) -> torch.device:
    """Where sums of many numbers from a device are kept in float64: on the device itself, or else on the CPU."""
    return device if _has_float64(device.type) else torch.device("cpu")


def in_float64(values: Tensor) -> Tensor:
    """The values in float64, on :func:`float64_device` of theirs."""
    return values.to(float64_device(values.device)).double()
