import pytest
import torch
from torch import nn

from pipelines.training import memory
from pipelines.training.memory import check_memory, free_memory

CPU = torch.device("cpu")


def test_what_does_not_fit_is_refused_before_the_start(monkeypatch):
    module = nn.Linear(1024, 1024, bias=False)  # 4 MiB
    monkeypatch.setattr(memory, "free_memory", lambda device: 16 * 2**20)
    check_memory("prior", module, CPU, copies=4)
    with pytest.raises(ValueError, match=r"prior: weights, .* take 0.0 GiB .*: train a smaller model"):
        check_memory("prior", module, CPU, copies=5)
    with pytest.raises(ValueError, match="smaller model"):  # the weights themselves have to go there
        check_memory("prior", module, torch.device("cuda"), copies=4)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    check_memory("prior", module, CPU, copies=10**6)


def test_free_memory_is_the_machines_or_the_containers(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert free_memory(CPU) is None  # as on a Mac
    assert free_memory(torch.device("mps")) is None
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    4096 kB\n")
    assert free_memory(CPU) == 4096 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 1048576\nfile 99999999\n")
    assert free_memory(CPU) == 4096 * 1024
    (tmp_path / "memory.max").write_text("3145728\n")
    assert free_memory(CPU) == 2 * 2**20
