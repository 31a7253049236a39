from contextlib import ExitStack

import torch

from pipelines.distributed.gpu_slots import free_slot, gpu_slot, visible_gpus
from pipelines.distributed.hardware import Hardware


def test_jobs_spread_over_the_gpus(tmp_path):
    with ExitStack() as jobs:
        assert [jobs.enter_context(free_slot(tmp_path, ["0", "1", "7"])) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_gpu_that_is_given_back_is_taken_next(tmp_path):
    with free_slot(tmp_path, ["0", "1"]) as first:
        with free_slot(tmp_path, ["0", "1"]) as second:
            assert (first, second) == (0, 1)
        with free_slot(tmp_path, ["0", "1"]) as third:
            assert third == 1


def test_jobs_that_see_other_gpus_count_the_same_ones(tmp_path):
    with free_slot(tmp_path, ["2", "3"]) as first, free_slot(tmp_path, ["3", "2"]) as second:
        assert (first, second) == (0, 0)  # 2, then 3


def test_gpus_are_called_as_every_process_does(here, monkeypatch):
    here("cuda", 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert visible_gpus("cuda") == ["4", "6"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus("cuda") == ["0", "1"]
    monkeypatch.setenv("ZE_AFFINITY_MASK", "3,1")
    assert visible_gpus("xpu") == ["3", "1"]
    assert visible_gpus("mps") == ["0", "1"]


def test_a_job_on_the_cpu_takes_none(monkeypatch):
    monkeypatch.setattr("pipelines.distributed.gpu_slots.free_slot", None)
    with gpu_slot(Hardware("cpu", devices=1)):
        pass


def test_a_job_on_one_of_several_gpus_takes_one(here, monkeypatch, tmp_path):
    here("cuda", 2)
    chosen = []
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    one = Hardware("gpu", devices=1)
    with gpu_slot(one), gpu_slot(one):
        assert chosen == [0, 1]
    assert chosen == [0, 1, 0, 0]  # as it was
    with gpu_slot(Hardware("gpu", devices=2)):  # its processes take all
        assert len(chosen) == 4
    here("cuda", 1)
    with gpu_slot(one):
        assert len(chosen) == 4
