"""The accelerator of this machine, whatever its make: CUDA, ROCm (which torch calls CUDA), MPS or XPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Made = TypeVar("Made")


def accelerator_type() -> str | None:
    """torch's name of the accelerator that is there, such as ``cuda``; None where there is none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else found.type


def find_device(name: str | torch.device | None = None) -> torch.device:
    """A device of this machine.

    Args:
        name: ``auto`` or None for the accelerator, or the CPU where there is none; ``gpu`` for any accelerator; or
            torch's own name, such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ValueError: If there is no such device.
    """
    found = accelerator_type()
    asked = str(name or "auto")
    if asked == "auto":
        asked = found or "cpu"
    elif asked == "gpu" and found:
        asked = found
    kind, _, index = asked.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if kind != found:
        raise ValueError(f"no {kind} device was found on this machine, only {f'{found} and ' if found else ''}the CPU")
    number = index or str(torch.accelerator.current_device_index())
    count = torch.accelerator.device_count()
    if not number.isdigit() or int(number) >= count:
        raise ValueError(f"this machine has no {asked}, only {kind}:0 to {kind}:{count - 1}")
    return torch.device(kind, int(number))


@cache
def has_bfloat16(device_type: str) -> bool:
    """Whether a device multiplies in bfloat16 under autocast, without emulating it."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        with torch.autocast(device_type, torch.bfloat16):
            ones = torch.ones(8, 8, device=device_type)
            product = ones @ ones
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return product.dtype == torch.bfloat16


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Compute float32 products and convolutions of CUDA GPUs in TensorFloat-32, or in float32, for the duration.

    Args:
        tf32: Whether in TensorFloat-32. By its own default torch does so for convolutions alone.
    """
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def made_on_meta(make: Callable[[], Made]) -> Made:
    """What a function makes on the meta device, where weights take neither time nor memory.

    A class that reads its weights as it is made, as a user's may, is made as usual.
    """
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):
        return make()
