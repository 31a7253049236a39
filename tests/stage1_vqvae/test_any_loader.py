"""A tokenizer is trained by one's own Trainer on the batches of any DataLoader."""

import copy

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from stage1_vqvae import VQVAE, TokenizerTraining
from stage1_vqvae.data.examples import training_batch
from stage1_vqvae.quantizers import EMAVectorQuantizer

BYTES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 8, 12, 3), dtype=np.uint8))  # [N, H, W, C]
FLOATS = BYTES.permute(0, 3, 1, 2) / 255
LABELS = torch.arange(12) % 2

torch.manual_seed(0)
MODEL = VQVAE((8, 12), 3, EMAVectorQuantizer(4, 6), width=8, residual_width=4, residual_layers=1, downsample_factor=4)

LOADERS = {
    "floats": TensorDataset(FLOATS),
    "bytes, channels last": TensorDataset(BYTES),
    "pairs with labels": TensorDataset(FLOATS, LABELS),
    "mappings": [{"image": image, "label": label} for image, label in zip(FLOATS, LABELS, strict=True)],
    "arrays of a column": [{"pixel_values": image} for image in BYTES.numpy()],
    "images alone": list(FLOATS.double()),
}


def trainer(folder, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, **{**quiet, "enable_checkpointing": False, **options})


def trained(examples, folder):
    module = TokenizerTraining(copy.deepcopy(MODEL))
    trainer(folder, max_epochs=1).fit(module, DataLoader(examples, batch_size=4))
    return module.model.state_dict()


@pytest.fixture(scope="module")
def of_the_pipelines_batches(tmp_path_factory):
    rows = [{"images": image, "draws": torch.tensor(number)} for number, image in enumerate(BYTES)]
    return trained(rows, tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("form", LOADERS)
def test_every_form_of_batches_trains_to_the_same_bits(form, of_the_pipelines_batches, tmp_path):
    found = trained(LOADERS[form], tmp_path)
    assert any(not torch.equal(weight, MODEL.state_dict()[name]) for name, weight in found.items())
    for name, weight in of_the_pipelines_batches.items():
        assert torch.equal(found[name], weight), name


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (FLOATS * 2 - 1, r"floats in \[0, 1\] expected, these lie in \[-1, .*\(images \+ 1\) / 2"),
        (BYTES.float(), "e.g. images / 255"),
        (BYTES.long(), "uint8 of 0 to 255 or floats"),
        (FLOATS * torch.nan, "NaN"),
        (FLOATS[..., :4], r"\[B, 3, 8, 12\] or \[B, 8, 12, 3\] expected"),
        ({"picture": FLOATS}, "an example with a key image"),
        ((FLOATS, LABELS, LABELS), "an image, or a pair"),
        (["a.png"], "a batch of tensors or arrays expected, got str"),
    ],
)
def test_a_batch_of_anything_else_is_refused_in_one_line(batch, message):
    with pytest.raises(ValueError, match=message) as error:
        training_batch(batch, (8, 12), 3)
    assert "\n" not in str(error.value)


def test_checkpoints_validation_and_prediction_of_lightning(tmp_path):
    loader = DataLoader(TensorDataset(FLOATS, LABELS), batch_size=4)
    module = TokenizerTraining(copy.deepcopy(MODEL))
    kept = ModelCheckpoint(tmp_path, monitor="validation/psnr", mode="max")
    own = trainer(tmp_path, max_epochs=2, callbacks=[kept], enable_checkpointing=True)
    own.fit(module, loader, loader)
    loaded = TokenizerTraining.load_from_checkpoint(kept.best_model_path, model=copy.deepcopy(MODEL))
    (metrics,) = own.validate(loaded, loader, verbose=False)
    assert metrics["validation/psnr"] == pytest.approx(kept.best_model_score.item())

    batches = own.predict(loaded, loader)
    codes = torch.cat([batch["codes"] for batch in batches])
    reconstructions = torch.cat([batch["reconstructions"] for batch in batches])
    assert codes.shape == (12, 6)
    assert codes.dtype == torch.int64
    error = ((reconstructions.numpy() - FLOATS.numpy()) ** 2).mean()
    assert 10 * np.log10(1 / error) == pytest.approx(metrics["validation/psnr"], abs=0.2)  # that is a mean over images


def test_a_schedule_knows_the_steps_of_a_trainer_that_counts_epochs(tmp_path):
    asked = []

    def optimization(module, steps):
        asked.append(steps)
        return torch.optim.SGD(module.parameters(), 1e-3)

    for options in ({"max_epochs": 2}, {"max_epochs": -1, "max_time": "00:00:00:00"}, {"max_steps": 5}):
        module = TokenizerTraining(copy.deepcopy(MODEL), optimization=optimization)
        trainer(tmp_path, **options).fit(module, DataLoader(TensorDataset(FLOATS), batch_size=4))
    assert asked[0] == 6
    assert asked[1] > 10**9
    assert asked[2] == 5


def test_images_as_bytes_are_told_from_those_of_models():
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\] expected, got torch.uint8: convert"):
        MODEL.encode(BYTES.permute(0, 3, 1, 2))
