import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from pipelines.distributed.hardware import Hardware
from pipelines.distributed.lightning import OtherAccelerator, trainer_options


def test_buffers_are_not_broadcast_over_what_the_quantizers_keep_equal():
    assert trainer_options(Hardware("cpu", devices=1), sharded=False)["strategy"] == "auto"
    several = trainer_options(Hardware("cpu", devices=2), sharded=False)["strategy"]
    assert isinstance(several, DDPStrategy)
    assert several._ddp_kwargs["broadcast_buffers"] is False


def test_a_sharded_prior_is_saved_to_one_file():
    several = Hardware("cpu", devices=2, num_nodes=3, strategy="fsdp")
    assert isinstance(trainer_options(several, sharded=False)["strategy"], DDPStrategy)  # stage one
    strategy = trainer_options(several, sharded=True)["strategy"]
    assert isinstance(strategy, ModelParallelStrategy)
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (6, 1)
    assert strategy._save_distributed_checkpoint is False
    one = Hardware("cpu", devices=1, strategy="fsdp")
    assert trainer_options(one, sharded=True)["strategy"] == "auto"


def test_one_process_trains_on_the_gpu_that_a_sweep_chose(here):
    here("cuda", 4, current=2)
    assert trainer_options(Hardware("gpu", devices=1), sharded=False)["devices"] == [2]
    assert trainer_options(Hardware("gpu", devices=3), sharded=False)["devices"] == 3
    assert trainer_options(Hardware("auto"), sharded=False)["devices"] == 4
    assert trainer_options(Hardware("gpu", devices=1, num_nodes=2), sharded=False)["devices"] == 1
    assert trainer_options(Hardware("cpu", devices=1), sharded=False)["devices"] == 1
    here("mps", 1)
    assert trainer_options(Hardware("auto"), sharded=False)["devices"] == 1


@pytest.mark.parametrize(("kind", "plugins"), [("cuda", 0), ("mps", 1), ("xpu", 1)])
def test_autocast_is_of_the_device(here, kind, plugins):
    here(kind, 1)
    options = trainer_options(Hardware("auto", devices=1), sharded=False)
    assert len(options["plugins"]) == plugins
    assert options["precision"] == (None if plugins else "bf16-mixed")
    for plugin in options["plugins"]:
        assert isinstance(plugin, MixedPrecision)
        assert (plugin.precision, plugin.device) == ("bf16-mixed", kind)


def test_the_precision_reaches_the_trainer():
    options = trainer_options(Hardware("cpu", 1, precision="bf16-mixed"), sharded=False)
    trainer = Trainer(**options, logger=False, enable_checkpointing=False)
    assert isinstance(trainer.precision_plugin, MixedPrecision)
    assert (trainer.precision_plugin.precision, trainer.precision_plugin.device) == ("bf16-mixed", "cpu")
    options = trainer_options(Hardware("cpu", 1), sharded=False)
    assert Trainer(**options, logger=False, enable_checkpointing=False).precision == "32-true"


def test_an_accelerator_that_lightning_does_not_know_is_used_through_torch(here, monkeypatch):
    here("xpu", 2, current=1)
    chosen = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    options = trainer_options(Hardware("auto", devices=1), sharded=False)
    accelerator, strategy = options["accelerator"], options["strategy"]
    assert isinstance(accelerator, OtherAccelerator)
    assert isinstance(strategy, SingleDeviceStrategy)
    assert strategy.root_device == torch.device("xpu", 1)
    accelerator.setup_device(torch.device("xpu", 1))
    assert chosen == [1]
    assert accelerator.get_parallel_devices(2) == [torch.device("xpu", 0), torch.device("xpu", 1)]
    assert accelerator.get_parallel_devices([1]) == [torch.device("xpu", 1)]
    assert (accelerator.auto_device_count(), accelerator.name()) == (2, "xpu")
    assert isinstance(trainer_options(Hardware("auto"), sharded=False)["strategy"], DDPStrategy)
