import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from pipelines.hardware import Hardware


def test_a_gpu_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU is to be found here: use trainer=cpu"):
            Hardware("gpu")


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"num_nodes": 0}])
def test_at_least_one_process(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Hardware("cpu", **wrong)


def test_buffers_are_not_broadcast_over_what_the_quantizers_keep_equal():
    assert Hardware("cpu", devices=1).strategy == "auto"
    several = Hardware("cpu", devices=2).strategy
    assert isinstance(several, DDPStrategy)
    assert several._ddp_kwargs["broadcast_buffers"] is False
