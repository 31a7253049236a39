"""Training, validation and extraction on the second device, by Lightning's own loop with our callbacks."""

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.strategies import SingleDeviceStrategy

from pipelines.tasks.extract_codes import _encode
from pipelines.training import nonfinite
from pipelines.training.ema import AveragedWeights
from pipelines.training.nonfinite import SkipNonFinite
from pipelines.training.preemption import StopRequest
from pipelines.training.step_seed import StepSeed
from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.losses import SquaredError
from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.vqvae import VQVAE
from tests.second_device.device import FakeDevice
from tests.support.resuming import Examples, muon_training, prior_training, tokenizer_training


class SecondAccelerator(Accelerator):
    """What Lightning asks of an accelerator."""

    def __init__(self, device):
        self.device = device

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return devices

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "second"

    def get_device_stats(self, device):
        return {}


def fsq_training():
    """A tokenizer whose quantizer never waits."""
    module = tokenizer_training()
    model = VQVAE((16, 16), 1, FSQ([4, 4]), width=8, residual_width=4, downsample_factor=8)
    return TokenizerTraining(model, SquaredError(), module.augmentation, module.optimization, seed=1)


STAGES = {
    "tokenizer": fsq_training,
    "tokenizer with a codebook": tokenizer_training,
    "prior": prior_training,
    "prior by Muon": muon_training,
}


@pytest.fixture
def reads(second, monkeypatch):
    """How many tensors were read by the host, as it is allowed to: of the decision on each step."""
    found = []

    class Counted(nonfinite.DeferredRead):
        def __init__(self, values):
            found.append(values.device.type)
            if not isinstance(second, FakeDevice):
                super().__init__(values)

        def wait(self):
            return [0.0, 0.0, 1.0, 1.0] if isinstance(second, FakeDevice) else super().wait()

    monkeypatch.setattr(nonfinite, "DeferredRead", Counted)
    # Lightning adds up the ranks' numbers of batches on the device, once before it trains.
    for loop in ("fit_loop", "evaluation_loop"):
        monkeypatch.setattr(f"pytorch_lightning.loops.{loop}.has_len_all_ranks", lambda *arguments: True)
    return found


class Steps(Callback):
    """Counts the optimiser's steps; from the first batch to the last, nothing may make the host wait."""

    def __init__(self, second, fused):
        self.second, self.fused, self.count = second, fused, 0

    def on_train_start(self, trainer, pl_module):
        self.second.strict = True
        for group in trainer.optimizers[0].param_groups:
            group["fused"] = self.fused
        trainer.optimizers[0].register_step_pre_hook(self._before)

    def _before(self, optimizer, args, kwargs):
        self.count += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert all(value.device == pl_module.device for value in outputs.values())

    def on_train_end(self, trainer, pl_module):
        self.second.strict = False

    def on_exception(self, trainer, pl_module, exception):
        self.second.strict = False


class Batches:
    """Three batches; torch's loader reads a seed that it draws on the CPU, where fake tensors have no values either."""

    def __len__(self):
        return 3

    def __iter__(self):
        return (Examples().__getitems__(list(range(4 * batch, 4 * batch + 4))) for batch in range(3))


def train(module, second, fused=True, **options):
    """Three steps."""
    skips = SkipNonFinite(3, StopRequest())
    steps = Steps(second, fused)
    with second.running(strict=False):
        trainer = Trainer(
            accelerator=SecondAccelerator(second.device),
            strategy=SingleDeviceStrategy(second.device),
            max_epochs=1,
            max_steps=3,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[steps, StepSeed(1), AveragedWeights(0.9, skips), skips],
            **options,
        )
        trainer.fit(module, Batches())
    return steps.count


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("stage", STAGES)
def test_training(stage, clip, second, reads):
    assert train(STAGES[stage](), second, gradient_clip_val=clip) == 3
    assert reads == [second.device.type] * 3


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_a_step_of_an_optimiser_that_is_not_fused(stage, second, reads):
    """The host decides before it, by as many reads."""
    assert train(STAGES[stage](), second, fused=None) == 3
    assert reads == [second.device.type] * 3


@pytest.mark.parametrize("stage", STAGES)
def test_batches_of_a_validation(stage, second):
    module = second.put(STAGES[stage]()).eval()
    batch = second.put(Examples().__getitems__([1, 2, 3, 4]))
    with second.running(), torch.no_grad():
        for number in range(2):
            module.validation_step(batch, number)


@pytest.mark.parametrize("first", [1, 11], ids=["images", "augmented copies"])
def test_extraction(first, second):
    """Of a batch of images: the host waits for its codes alone, which a copy brings."""
    model = second.put(fsq_training().model.eval())
    batch = {"images": torch.zeros(2, 16, 16, 1, dtype=torch.uint8), "draws": torch.tensor([first, first + 1])}
    augmentation = Augmentation(flip=True, rotate=5.0) if first > 9 else None
    with second.running(strict=False):
        codes = _encode(model, augmentation, batch, examples=10, seed=3)
        assert codes.device.type == "cpu"
