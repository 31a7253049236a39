"""A prior spread over two processes trains as a copied one does."""

import copy
import signal
from functools import partial

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import distribute_tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from pipelines.distributed import collectives, launch
from pipelines.distributed.fsdp import AS_THEY_ARE, ShardedPriorTraining, built_on_first, full_tensor, shard_policy
from pipelines.training.checkpoint_files import load_checkpoint, newest, step_path
from pipelines.training.muon import MuonOptimization
from pipelines.training.optimization import Optimization
from pipelines.training.stage_trainer import StageTrainer, refuse_ema_with_fsdp
from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.transformer.model import Transformer
from tests.support.resuming import assert_same, final_state
from tests.support.two_ranks import Signal, local, train


def weights(folder):
    return load_checkpoint(step_path(folder, newest(folder).step))["state_dict"]


@pytest.fixture(scope="module")
def sharded(forked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    train("sharded", folder, ema_decay=None, gradient_clip_val=0.5)
    return folder


def test_parts_train_as_copies_do(sharded, tmp_path):
    train("stage2", tmp_path, ema_decay=None, gradient_clip_val=0.5)
    expected = weights(tmp_path)
    found = weights(sharded)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert type(found[name]) is torch.Tensor
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def killed_and_continued(stage, folder):
    """The last state of a training of which a rank is killed in a step."""
    with pytest.raises((ProcessExitedException, ProcessRaisedException)):
        train(stage, folder, ema_decay=None, gradient_clip_val=0.5, callbacks=[Signal(1, signal.SIGKILL, 7, None)])
    train(stage, folder, ema_decay=None, gradient_clip_val=0.5)
    return final_state(folder)


def test_a_kill_changes_nothing(sharded, tmp_path):
    assert_same(killed_and_continued("sharded", tmp_path), final_state(sharded))


def test_a_kill_changes_nothing_of_two_optimisers_in_one(forked, tmp_path):
    train("sharded_muon", tmp_path / "whole", ema_decay=None, gradient_clip_val=0.5)
    assert_same(killed_and_continued("sharded_muon", tmp_path / "killed"), final_state(tmp_path / "whole"))


def sharded_over_all(prior, policy=AS_THEY_ARE):
    """The training of a prior that lies on the ranks of the group."""
    module = ShardedPriorTraining(prior, 0.0, 0.0, Optimization(1e-2), policy=policy)
    assert all(value.is_meta for value in module.parameters())
    shape = (collectives.ranks(), 1)
    module._device_mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data_parallel", "tensor_parallel"))
    module.configure_model()
    return module


def compare(make, folder):
    """Spread a prior over the ranks; write how many values each holds, and its nats beside the whole prior's."""
    torch.manual_seed(0)
    first = collectives.rank() == 0
    prior = built_on_first(partial(make, CodeLayout(((2, 2), (4, 4)), (6, 5)), 3, dropout=0.0))
    assert all(value.is_meta == (not first) for value in prior.state_dict().values())
    module = sharded_over_all(prior)
    module.configure_model()  # before the last validation again
    codes, labels = torch.arange(60).view(3, 20) % 5, torch.tensor([0, 2, -1])
    units = sum(isinstance(layer, FSDPModule) for layer in module.modules())
    held = sum(local(value).numel() for value in module.parameters())
    nats = module.model.nats(codes, labels)
    nats.mean().backward()
    gradients = [full_tensor(value.grad) for value in module.parameters()]
    if first:
        expected = prior.nats(codes, labels)
        torch.testing.assert_close(nats, expected)
        expected.mean().backward()
        for found, value in zip(gradients, prior.parameters(), strict=True):
            torch.testing.assert_close(found, value.grad)
        with torch.no_grad():
            for value in prior.parameters():
                value.zero_()
    module.gather(prior)  # on rank 0
    assert not first or all(value.any() for value in prior.parameters() if value.ndim > 1)
    (folder / str(collectives.rank())).write_text(
        f"{units} {held / sum(value.numel() for value in prior.parameters())} {nats.sum().item()}"
    )


@pytest.mark.parametrize(
    ("make", "units"),
    [
        (partial(Transformer, width=16, layers=3, heads=2, tied=True, activation_checkpointing=True), 4),
        (partial(PixelCNN, width=8, layers=2, attention_every=2, heads=2), 5),
    ],
)
def test_a_prior_in_parts_says_the_same(make, units, forked, tmp_path):
    launch.run_on_all(compare, make, tmp_path, processes=2)
    written = [(tmp_path / rank).read_text().split() for rank in "01"]
    for found, share, nats in written:
        assert int(found) == units  # every layer, and the rest
        assert 0.4 < float(share) < 0.6
        assert nats == written[0][2]  # of rank 0's weights


def compare_in_bfloat16(folder):
    """Write the types of what a sharded prior computes with, holds and learns by; its nats are those of float32."""
    torch.manual_seed(0)
    prior = Transformer(CodeLayout(((2, 2),), (6,)), 3, width=16, layers=1, heads=2, dropout=0.0)
    module = sharded_over_all(prior, shard_policy("bf16-mixed"))
    seen = {}
    block = module.model.sharding_units()[0]
    block.feed_forward.out.register_forward_hook(lambda part, given, made: seen.update(weights=part.weight.dtype))
    block.register_forward_pre_hook(lambda part, given: seen.update(rotations=given[1].dtype))
    codes, labels = torch.arange(12).view(3, 4) % 6, torch.tensor([0, 2, -1])
    with torch.autocast("cpu", torch.bfloat16):
        nats = module.model.nats(codes, labels)
    nats.mean().backward()
    torch.testing.assert_close(nats, prior.nats(codes, labels), rtol=0.02, atol=0.0)
    seen["shards"] = {value.dtype for value in module.parameters()}
    seen["gradients"] = {value.grad.dtype for value in module.parameters()}
    assert all(value.grad is not None and full_tensor(value.grad).isfinite().all() for value in module.parameters())
    (folder / str(collectives.rank())).write_text(str(seen))


def test_weights_in_parts_travel_in_bfloat16_and_stay_in_float32(forked, tmp_path):
    launch.run_on_all(compare_in_bfloat16, tmp_path, processes=2)
    f32, bf16 = torch.float32, torch.bfloat16
    expected = {"rotations": f32, "weights": bf16, "shards": {f32}, "gradients": {f32}}
    assert [(tmp_path / rank).read_text() for rank in "01"] == [str(expected)] * 2
    assert shard_policy("32-true") == shard_policy("bf16-true") == AS_THEY_ARE


def step_by_muon(folder):
    """Steps of a sharded prior and of a whole one with the same gradients; writes the largest difference they make."""
    torch.manual_seed(0)
    prior = Transformer(CodeLayout(((2, 2),), (6,)), 3, width=16, layers=2, heads=2, dropout=0.0)
    whole = copy.deepcopy(prior)
    module, how = sharded_over_all(prior), MuonOptimization(1e-2)
    optimizers = [how.optimizer(module.model), how.optimizer(whole)]
    for _ in range(3):
        for part, value in zip(module.model.parameters(), whole.parameters(), strict=True):
            value.grad = torch.randn_like(value)  # of full rank: Muon has no direction for what is zero
            part.grad = distribute_tensor(value.grad, part.device_mesh, part.placements)
        for optimizer in optimizers:
            optimizer.step()
    pairs = zip(module.model.parameters(), whole.parameters(), strict=True)
    differences = [(full_tensor(part.detach()) - value.detach()).abs().max().item() for part, value in pairs]
    (folder / str(collectives.rank())).write_text(str(max(differences)))


def test_muon_takes_matrices_in_parts(forked, tmp_path):
    launch.run_on_all(step_by_muon, tmp_path, processes=2)
    # A step moves an entry by 3e-3 or so; Muon's iteration is in bfloat16.
    assert all(float((tmp_path / rank).read_text()) < 1e-3 for rank in "01")


class Reading(torch.nn.Module):
    """A class whose weights are read as it is made."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.Parameter(torch.ones(2))
        self.norm.sum().item()


def test_what_cannot_be_made_without_memory_is_made_whole(monkeypatch):
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    assert built_on_first(partial(torch.nn.Linear, 2, 2)).weight.is_meta
    assert not built_on_first(Reading).norm.is_meta


def test_averaged_weights_are_refused():
    refuse_ema_with_fsdp(StageTrainer(1, 1, 1))
    with pytest.raises(ValueError, match=r"stage2.trainer.ema_decay: .* give stage2.trainer.ema_decay=null"):
        refuse_ema_with_fsdp(StageTrainer(1, 1, 1, ema_decay=0.9))
