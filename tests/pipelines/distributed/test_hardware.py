import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

from pipelines.distributed.hardware import Hardware


def test_a_gpu_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU is to be found here: use hardware=cpu"):
            Hardware("gpu")


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"num_nodes": 0}])
def test_at_least_one_process(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Hardware("cpu", **wrong)


def test_buffers_are_not_broadcast_over_what_the_quantizers_keep_equal():
    assert Hardware("cpu", devices=1).lightning_strategy(sharded=False) == "auto"
    several = Hardware("cpu", devices=2).lightning_strategy(sharded=False)
    assert isinstance(several, DDPStrategy)
    assert several._ddp_kwargs["broadcast_buffers"] is False


def test_one_process_trains_on_the_gpu_that_a_sweep_chose(monkeypatch):
    assert Hardware("cpu", devices=1).lightning_devices == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert Hardware("gpu", devices=1).lightning_devices == [2]
    assert Hardware("gpu", devices=3).lightning_devices == 3
    assert Hardware("auto").lightning_devices == 4
    assert Hardware("gpu", devices=1, num_nodes=2).lightning_devices == 1
    assert Hardware("cpu", devices=1).lightning_devices == 1


def test_a_prior_in_parts_needs_gpus(monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"^hardware=fsdp needs GPUs: use hardware=ddp$"):
            Hardware("gpu", strategy="fsdp")
    with pytest.raises(ValueError, match=r"precision: hardware=fsdp takes .* got 16-mixed"):
        Hardware("cpu", strategy="fsdp", precision="16-mixed")


def test_only_a_prior_on_several_processes_is_spread():
    assert not Hardware("cpu", devices=2).sharded
    assert not Hardware("cpu", devices=1, strategy="fsdp").sharded
    several = Hardware("cpu", devices=2, num_nodes=3, strategy="fsdp")
    assert several.sharded
    assert isinstance(several.lightning_strategy(sharded=False), DDPStrategy)  # stage one
    strategy = several.lightning_strategy(sharded=True)
    assert isinstance(strategy, ModelParallelStrategy)
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (6, 1)
    assert strategy._save_distributed_checkpoint is False  # one file, as of any training
    assert Hardware("cpu", devices=1, strategy="fsdp").lightning_strategy(sharded=True) == "auto"
