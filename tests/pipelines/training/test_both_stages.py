import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins import MixedPrecision
from torch.utils.data import DataLoader

from tests.support.resuming import tokenizer_training


class Watch(Callback):
    """The quantizer's state after every batch, and the calls of the optimiser's step."""

    def __init__(self):
        self.states, self.stepped = [], 0

    def on_train_start(self, trainer, pl_module):
        trainer.optimizers[0].register_step_post_hook(self._count)

    def _count(self, *_):
        self.stepped += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        quantizer = pl_module.model.quantizer
        assert all(value.dtype != torch.bfloat16 for value in quantizer.state_dict().values())
        self.states.append({name: value.clone() for name, value in quantizer.state_dict().items()})


def train(batches, module=None, size=4, **options):
    """States of the quantizer after each batch of a real training."""
    watch = Watch()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8 * size, 16, 16, 1), dtype=torch.uint8, generator=generator)
    examples = [{"images": image, "draws": torch.tensor(draw)} for draw, image in enumerate(images[: batches * size])]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
        **options,
    )
    trainer.fit(module or tokenizer_training(), DataLoader(examples, batch_size=size))
    return watch


def test_a_step_that_the_gradient_scaler_skips_is_skipped_by_the_codebook():
    # The first scale overflows, the second fits: one step of four does not happen.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, backoff_factor=2.0**-112)
    watch = train(4, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert 1 <= watch.stepped < 4
    assert [int(state["steps"]) for state in watch.states][-1] == watch.stepped
    assert watch.states[0]["steps"] == 0
    assert watch.states[0]["usage"].eq(0).all()


def test_micro_batches_step_the_codebook_once_with_all_of_them():
    watch = train(6, accumulate_grad_batches=3)
    assert [int(state["steps"]) for state in watch.states] == [0, 0, 1, 1, 1, 2]
    assert watch.states[2]["usage"].sum() == 3 * 4 * 4  # three batches of four images of four codes


@pytest.mark.parametrize("lost", [[0], [0, 1]])
def test_a_batch_without_a_loss_gives_no_step(lost):
    module = tokenizer_training()
    plain = module.training_step

    def training_step(batch, batch_idx):
        return None if batch_idx in lost else plain(batch, batch_idx)

    module.training_step = training_step
    watch = train(3, module)
    assert [int(state["steps"]) for state in watch.states] == [max(0, n - len(lost)) for n in (1, 2, 3)]


def test_the_codebook_stays_float32_in_a_training_of_bfloat16():
    watch = train(3, precision="bf16-true")
    assert watch.states[-1]["steps"] == 3
    assert watch.states[-1]["codebook"].dtype == torch.float32


def test_sanity_check_and_validation_change_nothing():
    module = tokenizer_training()
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    images = [{"images": torch.zeros(16, 16, 1, dtype=torch.uint8), "draws": torch.tensor(0)}] * 4
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.validate(module, DataLoader(images, batch_size=2), verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in module.model.state_dict().items())


def test_figures_are_computed_in_float32_in_any_precision():
    module = tokenizer_training()
    module.model.to(torch.bfloat16).eval()
    images = torch.randint(0, 256, (4, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module.validation_step({"images": images}, 0)
    pixels = images.permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        drawn = module.model(pixels.float()).images.double().clamp(-1, 1)
    expected = (drawn - pixels).square().mean().item()
    assert module.quality.compute()["mse"].item() == pytest.approx(expected, rel=1e-6)
