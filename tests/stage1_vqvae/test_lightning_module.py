from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.losses import SquaredError
from tests.support.resuming import Examples, tokenizer_training

AUGMENTATION = Augmentation(flip=True, shift=2, rotate=10.0)


class Seen(torch.nn.Module):
    """Keeps what a module is given and passes it on."""

    def __init__(self, module, change=None):
        super().__init__()
        self.module, self.seen, self.change = module, [], change
        self.layout, self.likelihood = module.layout, module.likelihood
        self.image_size, self.channels = module.image_size, module.channels
        self.step, self.discard = module.step, module.discard

    def forward(self, images):
        self.seen.append(images.detach())
        passed = self.module(images)
        if self.change:
            object.__setattr__(passed, "images", self.change(passed.images))
        return passed


def watched(seed=1, change=None, augmentation=AUGMENTATION):
    module = tokenizer_training()
    return TokenizerTraining(Seen(module.model, change), SquaredError(), augmentation, module.optimization, seed)


def fitted(module, batches, **options):
    """Train a module on batches by a plain Trainer that says and keeps nothing."""
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(accelerator="cpu", **dict.fromkeys(off, False), **options)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))


def test_training_images_are_augmented_by_their_draws_and_the_seed():
    batch = Examples().__getitems__([3, 14, 15, 9])
    shown = {}
    for seed in (1, 2):
        module = watched(seed)
        module.training_step(batch, 0)
        (shown[seed],) = module.model.seen
        assert torch.equal(shown[seed], AUGMENTATION(batch["images"], batch["draws"], seed))
    plain = batch["images"].permute(0, 3, 1, 2) / 127.5 - 1
    assert not torch.equal(shown[1], shown[2])
    assert not torch.equal(shown[1], plain)


def test_validation_images_are_not_augmented():
    module = watched().eval()
    batch = Examples().__getitems__([3, 4])
    module.validation_step(batch, 0)
    np.testing.assert_allclose(module.model.seen[0], batch["images"].permute(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)


def test_reconstructions_are_measured_within_the_range_of_images():
    """Beyond it a picture cannot be shown, and PSNR would count what nobody sees."""
    batch = {"images": torch.full((2, 16, 16, 1), 255, dtype=torch.uint8)}
    module = watched(change=lambda images: torch.full_like(images, 3.0)).eval()
    module.validation_step(batch, 0)
    assert module.quality.compute()["mse"].item() == 0


def test_images_without_draws_are_counted():
    """Those of a loader of one's own: no image of a training is augmented as another."""
    module, images = watched(), Examples().__getitems__(list(range(6)))["images"]
    fitted(module, [{"images": part} for part in images.split(3)], max_steps=2)
    for first, seen in zip((0, 3), module.model.seen, strict=True):
        assert torch.equal(seen, AUGMENTATION(images[first : first + 3], torch.arange(first, first + 3), 1))


def test_a_likelihood_takes_the_place_of_pixels_in_nats_per_dimension():
    module, batch = watched(), Examples().__getitems__([1, 2, 3])
    found = module.training_step(batch, 0)
    module.model.likelihood = SimpleNamespace(nats=lambda outputs, images: (outputs - 2 * images).sum((1, 2, 3)))
    nats = module.training_step(batch, 0)
    images = module.model.seen[0]
    gap = module.model(images).outputs.detach() - 2 * images
    assert nats["reconstruction"].item() == pytest.approx(gap.double().numpy().mean(), rel=1e-4)
    assert nats["quantizer"].item() == pytest.approx(found["quantizer"].item(), rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_metrics_are_logged_every_so_many_steps_and_are_those_of_the_step(accumulate):
    logged, shown = {}, set()

    class Recorded(TokenizerTraining):
        def training_step(self, batch, batch_idx):
            found = super().training_step(batch, batch_idx)
            self.last = {name: value.detach() for name, value in found.items()}
            return found

        def log(self, name, value, **options):
            logged.setdefault(self.trainer.global_step, {})[name] = torch.as_tensor(value).item()
            shown.update([name] if options.get("prog_bar") else [])
            if name == "train/loss":
                assert value.item() == pytest.approx(self.last["loss"].item())
            super().log(name, value, **options)

    base = tokenizer_training()
    module = Recorded(base.model, base.objective, base.augmentation, base.optimization, seed=1)
    batches = [Examples().__getitems__([number, number + 1, number + 2]) for number in range(10)]
    fitted(module, batches, max_steps=5, log_every_n_steps=2, accumulate_grad_batches=accumulate)
    assert set(logged) == ({2, 4} if accumulate == 1 else {0, 2, 4})  # 0: the first half of the first step
    assert set(logged[4]) == {"train/loss", "train/reconstruction", "train/quantizer", "train/perplexity"}
    assert shown == {"train/loss"}


def test_a_progress_bar_shows_quality_and_use_of_a_validation(monkeypatch):
    logged, shown = set(), set()

    def log(module, name, value, prog_bar=False, **options):
        logged.add(name)
        shown.update([name] if prog_bar else [])

    monkeypatch.setattr(TokenizerTraining, "log", log)
    module = watched().eval()
    module.validation_step(Examples().__getitems__([3, 4]), 0)
    module.on_validation_epoch_end()
    assert logged == {f"validation/{name}" for name in ("mse", "psnr", "ssim", "usage", "perplexity")}
    assert shown == {"validation/psnr", "validation/perplexity"}
