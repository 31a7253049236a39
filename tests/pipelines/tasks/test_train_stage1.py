import copy
import shutil

import numpy as np
import pytest
import torch

from pipelines.artifacts.models import Saved, fingerprint, load_tokenizer
from pipelines.config.instantiate import build
from pipelines.distributed.hardware import Hardware
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.training.checkpoint_files import load_checkpoint, step_path
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.images import open_images
from pipelines.training.stage_trainer import StageTrainer
from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.lightning_module import TokenizerTraining
from tests.support.distributed import on_two_ranks
from tests.support.resuming import Examples, adversarial_training, prior_training, tokenizer_training
from tests.support.tiny import TINY, compose


def _train(rank, make, processes, folder):
    module = {"tokenizer": tokenizer_training, "adversarial": adversarial_training, "prior": prior_training}[make]()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # ranks draw their own
    if make == "prior":
        module.label_dropout, module.random_order = 0.0, None
        for block in module.model.stack:
            block.attention.dropout = 0.0
    settings = StageTrainer(max_steps=6, validate_every=3, checkpoint_every=3, ema_decay=0.9)
    data = StageData(Examples(), Examples(), batch_size=4, seed=5, workers=0)
    metrics = fit("test", module, data, folder / make, settings, Hardware("cpu", processes), [])
    return {"metrics": metrics, "weights": copy.deepcopy(dict(module.model.state_dict()))}


def test_the_discriminator_lies_beside_the_tokenizer_and_is_no_part_of_its_fingerprint(tmp_path):
    small = ["stage1.discriminator.width=4", "stage1.training.adversary.onset=2", "stage1.trainer.ema_decay=0.9"]
    settings = compose(*TINY, "stage1/training=adversarial", *small, f"output={tmp_path}", "hardware=cpu")
    train_stage1(settings)
    saved = Saved.open(tmp_path / "tokenizer" / "discriminator", "discriminator")
    judge = build(saved.config["model"], "model")
    saved.load_weights(judge)
    last = load_checkpoint(step_path(tmp_path / "checkpoints" / "stage1", 6))["current_model_state"]
    for name, value in judge.state_dict().items():
        assert torch.equal(last[f"discriminator.{name}"], value), name
    tokenizer, known = load_tokenizer(tmp_path / "tokenizer")
    assert not any("discriminator" in name for name in tokenizer.state_dict())
    shutil.rmtree(tmp_path / "tokenizer" / "discriminator")
    assert fingerprint(tmp_path / "tokenizer") == known.fingerprint
    with pytest.raises(ValueError, match=r"other settings \(stage1.training"):
        train_stage1(compose(*TINY, "stage1.trainer.ema_decay=0.9", f"output={tmp_path}", "hardware=cpu"))


def test_two_processes_train_like_one(tmp_path):
    for make in ("tokenizer", "adversarial", "prior"):
        alone = _train(0, make, 1, tmp_path / "alone")
        first, second = on_two_ranks(_train, make, 2, tmp_path / "shared")
        for name, value in alone["weights"].items():
            np.testing.assert_array_equal(first["weights"][name], second["weights"][name])
            np.testing.assert_allclose(first["weights"][name], value.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
        for name, value in alone["metrics"].items():
            np.testing.assert_allclose(first["metrics"][name], value, rtol=1e-3, err_msg=name)


def test_training_is_as_the_settings_say(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stopped(*arguments):
        raise Stop(arguments[1])

    monkeypatch.setattr("pipelines.tasks.tokenizer_stage.fit", stopped)
    settings = compose(*TINY, f"output={tmp_path}", "stage1.seed=7", "hardware.channels_last=true")
    variance = open_images(settings).train.variance
    with pytest.raises(Stop) as stop:
        train_stage1(settings)
    (module,) = stop.value.args
    assert isinstance(module, TokenizerTraining)
    assert module.augmentation == Augmentation(shift=1, rotate=5.0, scale=0.05)
    assert module.seed == 7
    assert module.memory_format == torch.channels_last
    assert module.objective.objectives["pixels"].data_variance == pytest.approx(variance, rel=1e-3)
