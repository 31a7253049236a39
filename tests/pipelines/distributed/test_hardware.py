import pytest
import torch

from pipelines.distributed.hardware import Hardware


def test_a_gpu_that_is_not_there_is_refused(here):
    here(None)
    with pytest.raises(ValueError, match=r"^accelerator=gpu: no gpu device .*, only the CPU; use .* hardware=cpu$"):
        Hardware("gpu")
    with pytest.raises(ValueError, match=r"^hardware=fsdp needs GPUs: use hardware=ddp$"):
        Hardware("auto", strategy="fsdp")
    here("mps", 1)
    with pytest.raises(ValueError, match=r"^accelerator=cuda: no cuda .*, only mps and the CPU; use hardware=auto"):
        Hardware("cuda")


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"num_nodes": 0}])
def test_at_least_one_process(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Hardware("cpu", **wrong)


def test_no_more_processes_than_accelerators(here, monkeypatch):
    here("cuda", 2)
    with pytest.raises(ValueError, match=r"^devices=3: this machine has 2 \(cuda\): use devices=auto$"):
        Hardware("gpu", devices=3)
    monkeypatch.setenv("SLURM_NTASKS", "3")  # its processes may each see one GPU alone
    assert Hardware("gpu", devices=3).processes == 3
    assert Hardware("cpu", devices=3).processes == 3


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_auto_is_the_accelerator_that_is_here(here, kind):
    here(kind, 2)
    for name in ("auto", "gpu", kind):
        assert Hardware(name, devices=1).device == torch.device(kind, 0)
        assert Hardware(name).processes == 2
    assert Hardware("cpu").device == torch.device("cpu")
    here(None)
    assert Hardware("auto").device == torch.device("cpu")
    assert Hardware("auto").processes == 1


def test_training_is_in_bfloat16_where_the_accelerator_has_it(here):
    here("cuda", 1, bfloat16=True)
    assert Hardware("auto").training_precision == "bf16-mixed"
    assert Hardware("auto", precision="32-true").training_precision == "32-true"
    assert Hardware("cpu").training_precision == "32-true"
    here("cuda", 1, bfloat16=False)
    assert Hardware("auto").training_precision == "32-true"
    here(None)
    assert Hardware("auto").training_precision == "32-true"


def test_a_sharded_prior_takes_no_float16_with_a_scaler():
    with pytest.raises(ValueError, match=r"precision: hardware=fsdp takes .* got 16-mixed"):
        Hardware("cpu", strategy="fsdp", precision="16-mixed")


def test_float64_is_refused_where_there_is_none(monkeypatch):
    assert Hardware("cpu", precision="64-true").training_precision == "64-true"
    monkeypatch.setattr("pipelines.distributed.hardware.widest_float", lambda device: torch.float32)
    with pytest.raises(ValueError, match="precision=64-true: cpu has no float64: use 32-true"):
        Hardware("cpu", precision="64-true")


def test_only_a_prior_on_several_processes_is_sharded():
    assert not Hardware("cpu", devices=2).sharded
    assert not Hardware("cpu", devices=1, strategy="fsdp").sharded
    assert Hardware("cpu", devices=2, num_nodes=3, strategy="fsdp").sharded
    assert Hardware("cpu", devices=2, num_nodes=3).ranks == 6
