"""Small trainings of both stages that can be stopped anywhere, and all that they leave behind."""

import os
import signal

import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger

from pipelines.distributed.hardware import Hardware
from pipelines.training.checkpoint_files import load_checkpoint, newest, step_path
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.muon import MuonOptimization
from pipelines.training.optimization import Optimization
from pipelines.training.stage_trainer import StageTrainer
from stage1_vqvae.adversarial import AdversarialTraining, Adversary, PatchDiscriminator
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.losses import SquaredError
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.lightning_module import PriorTraining
from stage2_prior.transformer.model import Transformer


class Examples(torch.utils.data.Dataset):
    """Ten tiny images and their codes."""

    def __len__(self):
        return 10

    def __getitems__(self, draws):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (10, 16, 16, 1), dtype=torch.uint8, generator=generator)
        codes = torch.randint(0, 6, (10, 4), generator=generator)
        rows = torch.tensor(draws) % 10
        return {"images": images[rows], "codes": codes[rows], "labels": rows % 2, "draws": torch.tensor(draws)}


def tokenizer_training():
    torch.manual_seed(0)
    model = VQVAE(
        (16, 16), 1, EMAVectorQuantizer(4, 6, revive_after=3.0), width=8, residual_width=4, downsample_factor=8
    )
    return TokenizerTraining(model, SquaredError(), Augmentation(flip=True, shift=2), Optimization(1e-2), seed=1)


def adversarial_training(onset=3):
    """The same against a discriminator, with everything that keeps a state from step to step."""
    alone = tokenizer_training()
    return AdversarialTraining(
        alone.model,
        PatchDiscriminator(1, width=4, layers=2),
        alone.objective,
        alone.augmentation,
        alone.optimization,
        seed=1,
        discriminator_optimization=Optimization(1e-2, betas=(0.5, 0.9)),
        adversary=Adversary(onset=onset, ramp=2, lecam=0.1, r1=0.1),
    )


def prior_training():
    torch.manual_seed(0)
    prior = Transformer(CodeLayout(((2, 2),), (6,)), 2, width=8, layers=1, heads=2, dropout=0.3)
    return PriorTraining(prior, 0.5, 1.0, Optimization(1e-2, warmup_steps=2), random_order=(0.3, 0.8))


def muon_training():
    """A prior's training by two optimisers in one."""
    module = prior_training()
    module.optimization = MuonOptimization(1e-2, warmup_steps=2)
    return module


class Metrics(Logger):
    """Every metric by name and step; a later one replaces an earlier."""

    name, version = "metrics", ""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def log_metrics(self, metrics, step=None):
        self.seen |= {(name, step): value for name, value in metrics.items() if name != "epoch"}

    def log_hyperparams(self, *args, **kwargs):
        pass


class At(Callback):
    """Does something once, in the training batch that ends a step, or in a validation batch after it."""

    def __init__(self, action, step, validation_batch=None):
        self.action, self.step, self.validation_batch = action, step, validation_batch
        self.done = False

    def _do(self):
        if not self.done:
            self.done = True
            self.action()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step and self.validation_batch is None:
            self._do()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == self.step and self.validation_batch == batch_idx:
            self._do()


def die():
    """As a kill does: nothing is saved, nothing cleaned up."""
    raise SystemExit("killed")


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def train(
    module, folder, callbacks=(), metrics=None, batch_size=4, workers=0, data=None, precision="32-true", **options
):
    """Train in a folder; returns the weights kept and the last metrics."""
    best = ("validation/nats", "min") if isinstance(module, PriorTraining) else None
    settings = {"max_steps": 9, "validate_every": 4, "checkpoint_every": 2, "ema_decay": 0.9, **options}
    examples = data if data is not None else Examples()
    stage = StageData(examples, Examples(), batch_size=batch_size, seed=5, workers=workers)
    hardware = Hardware("cpu", 1, precision=precision)
    loggers = [metrics] if metrics is not None else []
    last = fit("test", module, stage, folder, StageTrainer(**settings), hardware, loggers, callbacks, best=best)
    return module.model.state_dict(), last


def final_state(folder):
    """Everything that the newest checkpoint holds but Lightning's own progress: name to value."""
    found = {}

    def flatten(name, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{name}.{key}", inner)
        elif isinstance(value, list | tuple):
            for key, inner in enumerate(value):
                flatten(f"{name}.{key}", inner)
        else:
            found[name] = value

    checkpoint = load_checkpoint(step_path(folder, newest(folder).step))
    del checkpoint["loops"]
    flatten("", checkpoint)
    return found


def assert_same(found, expected):
    """Equal to the bit."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, f"{name}: {found[name]}, {value} expected"
