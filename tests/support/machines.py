"""Machines other than this one, for tests."""

import pytest
import torch

from pipelines.distributed import hardware


@pytest.fixture
def here(monkeypatch):
    """Pretends that this machine has some accelerator: ``here("cuda", 2)``, or none: ``here(None)``."""

    def pretend(kind, count=0, bfloat16=True, current=0):
        found = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: current)
        monkeypatch.setattr(hardware, "has_bfloat16", lambda device_type: bfloat16)

    return pretend
