"""Random numbers by hashing counters: functions of a seed and a draw, the same on every device and every rank."""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195), written as signed 64-bit integers.
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def uniform_per_draw(draws: Tensor, seed: int, count: int) -> Tensor:
    """Draws `count` numbers in [0, 1) for each draw, float32 ``[B, count]``, by hashing (seed, draw, position).

    Args:
        draws: int64 ``[B]``, the number of each draw.
        seed: Any integer.
        count: Numbers of each draw.
    """
    signed_seed = (seed + 2**63) % 2**64 - 2**63
    key = _mix(torch.full_like(draws, signed_seed) + _GOLDEN_GAMMA)
    counters = _mix(key ^ _mix(draws + _GOLDEN_GAMMA))  # [B]
    positions = torch.arange(1, count + 1, device=draws.device)
    bits = _mix(counters[:, None] + positions * _GOLDEN_GAMMA)  # [B, count]
    # 24 bits are what float32 holds exactly, so that every device computes the same numbers.
    return _shift_right(bits, 40).float() * 2.0**-24


def _mix(values: Tensor) -> Tensor:
    values = (values ^ _shift_right(values, 30)) * _MIX_1
    values = (values ^ _shift_right(values, 27)) * _MIX_2
    return values ^ _shift_right(values, 31)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Shifts int64 values to the right as if they were unsigned."""
    return (values >> bits) & (2 ** (64 - bits) - 1)
