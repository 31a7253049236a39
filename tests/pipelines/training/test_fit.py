from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from pipelines.distributed.hardware import Hardware
from pipelines.training.data import StageData
from pipelines.training.fit import CHECKPOINTS, fit
from pipelines.training.stage_trainer import StageTrainer
from tests.support.resuming import Examples, prior_training, tokenizer_training


class Stop(Callback):
    """A kill after some optimiser steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise SystemExit("killed")


def train(module, folder, callbacks=(), best=None, **options):
    settings = {"max_steps": 9, "validate_every": 4, "checkpoint_every": 2, "ema_decay": 0.9, **options}
    data = StageData(Examples(), Examples(), batch_size=4, seed=5, workers=0)
    hardware = Hardware("cpu", 1)
    metrics = fit("test", module, data, folder, StageTrainer(**settings), hardware, [], callbacks, best=best)
    return module.model.state_dict(), metrics


@pytest.mark.parametrize("make", [tokenizer_training, prior_training])
@pytest.mark.parametrize("killed_at", [1, 4, 7])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_kill_changes_nothing(make, killed_at, accumulate, tmp_path):
    best = ("validation/nats", "min") if make is prior_training else None
    options = {"best": best, "accumulate_grad_batches": accumulate}
    expected, expected_metrics = train(make(), tmp_path / "whole", **options)
    with pytest.raises(SystemExit, match="killed"):
        train(make(), tmp_path / "killed", [Stop(killed_at)], **options)
    found, metrics = train(make(), tmp_path / "killed", **options)
    assert metrics == expected_metrics
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_finished_training_is_not_trained_further(tmp_path):
    expected, _ = train(prior_training(), tmp_path)
    found, _ = train(prior_training(), tmp_path)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_checkpoints_hold_plain_data(tmp_path):
    train(prior_training(), tmp_path, best=("validation/nats", "min"))
    names = {path.name for path in tmp_path.iterdir()}
    checkpoints = list(tmp_path.glob("*.ckpt"))
    assert names == {path.name for path in checkpoints} | {f"{path.name}.sha256" for path in checkpoints}
    for path in checkpoints:
        assert torch.load(path, weights_only=True)["global_step"] > 0


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_best_validation_is_kept_and_its_metrics_are_returned(ema_decay, tmp_path):
    class Spoil(Callback):
        """Weights that get bad after step 4."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step > 4:
                torch.nn.init.normal_(pl_module.model.head.weight, std=30.0)

    _, metrics = train(prior_training(), tmp_path, [Spoil()], best=("validation/nats", "min"), ema_decay=ema_decay)
    assert metrics["nats"] < 3


def test_codebook_follows_the_data_and_figures_are_of_the_whole_split(tmp_path):
    module = tokenizer_training()
    _, metrics = train(module, tmp_path, ema_decay=None)
    assert int(module.model.quantizer.steps) == 9
    assert set(metrics) == {"mse", "psnr", "ssim", "usage", "perplexity"}
    images = Examples().__getitems__(list(range(10)))["images"].permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        passed = module.model.eval()(images)
    expected = (passed.images.clamp(-1, 1) - images).square().mean()
    assert metrics["mse"] == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["psnr"] == pytest.approx(10 * torch.log10(4 / expected).item(), rel=1e-5)
    assert metrics["usage"] == pytest.approx(len(passed.codes.unique()) / 6)


def test_weights_kept_are_the_average_of_the_steps_and_buffers_are_not_averaged(tmp_path):
    class Record(Callback):
        """The weights after every step."""

        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    record = Record()
    kept, _ = train(tokenizer_training(), tmp_path, [record], ema_decay=0.5)
    name = "decoder.layers.0.bias"
    expected = record.seen[0][name]
    for n, state in enumerate(record.seen[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * state[name]
    torch.testing.assert_close(kept[name], expected)
    assert torch.equal(kept["quantizer.codebook"], record.seen[-1]["quantizer.codebook"])
    assert int(kept["quantizer.steps"]) == 9


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"validate_every": 0}, {"ema_decay": 1.0}])
def test_nothing_finishes_without_training(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StageTrainer(**{"max_steps": 1, "validate_every": 1, "checkpoint_every": 1, **wrong})


def test_the_gradient_is_clipped_and_the_forward_pass_in_the_precision_asked_for(tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.optimizers[0].register_step_post_hook(self._norm)

        def _norm(self, optimizer, args, kwargs):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            seen.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm().item())

    module = prior_training()
    module.model.register_forward_hook(lambda *arguments: seen.append(torch.is_autocast_enabled("cpu")))
    data = StageData(Examples(), Examples(), batch_size=4, seed=5, workers=0)
    settings = StageTrainer(max_steps=3, validate_every=3, checkpoint_every=3, gradient_clip_val=1e-3)
    hardware = Hardware("cpu", 1, precision="bf16-mixed")
    fit("test", module, data, tmp_path, settings, hardware, [], [Watch()])
    assert all(value is True for value in seen if isinstance(value, bool))
    norms = [value for value in seen if not isinstance(value, bool)]
    assert norms == pytest.approx([1e-3] * 3, rel=1e-2)


def test_a_validation_and_its_callbacks_see_the_average_and_training_goes_on_with_the_weights(tmp_path):
    class Watch(Callback):
        def __init__(self):
            self.seen = {}

        def look(self, name, pl_module):
            self.seen[name] = pl_module.model.state_dict()["decoder.layers.0.bias"].clone()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.look(f"trained {trainer.global_step}", pl_module)

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.look(f"begins after {trainer.global_step}", pl_module)

        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            self.look(f"validated {trainer.global_step}", pl_module)

        def on_validation_end(self, trainer, pl_module):
            self.look(f"pictured {trainer.global_step}", pl_module)

    watch = Watch()
    train(tokenizer_training(), tmp_path, [watch], max_steps=5, ema_decay=0.5)
    seen = watch.seen
    assert torch.equal(seen["validated 4"], seen["pictured 4"])
    assert not torch.equal(seen["validated 4"], seen["trained 4"])
    assert torch.equal(seen["begins after 4"], seen["trained 4"])


def test_a_disk_without_room_for_the_checkpoints_is_found_before_the_first_step(tmp_path, monkeypatch):
    module = prior_training()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    needed = CHECKPOINTS * sum(value.numel() * value.element_size() for value in before.values())
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match="make room, or give another output="):
        train(module, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_lightning_has_the_private_methods_that_we_replace():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert callable(trainer._signal_connector.register_signal_handlers)
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)
