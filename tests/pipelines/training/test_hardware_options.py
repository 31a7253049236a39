"""What ``hardware.compile``, ``channels_last`` and ``tf32`` do to a training."""

import pytest
import torch
from pytorch_lightning import Callback

from pipelines.distributed.hardware import Hardware
from pipelines.training import fit as fitting
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.stage_trainer import StageTrainer
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.vqvae import VQVAE
from tests.support.resuming import Examples, prior_training, tokenizer_training


class Colours(Examples):
    """The same in colour: images of one channel lie in every memory format at once."""

    def __getitems__(self, draws):
        batch = super().__getitems__(draws)
        return {**batch, "images": torch.cat([batch["images"], batch["images"].flip(1), batch["images"].flip(2)], -1)}


def fsq_training(**options):
    plain = tokenizer_training()
    torch.manual_seed(0)
    model = VQVAE((16, 16), 3, FSQ([4, 4]), width=8, residual_width=4, downsample_factor=8)
    return TokenizerTraining(model, plain.objective, plain.augmentation, plain.optimization, 1, **options)


def train(module, folder, callbacks=(), **options):
    data = StageData(Colours(), Colours(), batch_size=4, seed=5, workers=0)
    settings = StageTrainer(max_steps=3, validate_every=3, checkpoint_every=3)
    return fit("test", module, data, folder, settings, Hardware("cpu", 1, **options), [], callbacks)


@pytest.mark.parametrize("make", [fsq_training, prior_training])
def test_a_compiled_step_is_one_graph_and_trains_alike(make, tmp_path, monkeypatch):
    """By the backend that runs the graph's operators one by one: it needs no compiler and gives the same numbers."""
    compiled = []

    def compile_step(step, **options):
        compiled.append(options)
        return torch_compile(step, backend="aot_eager", **options)

    torch_compile = torch.compile
    expected = train(make(), tmp_path / "plain")
    monkeypatch.setattr(fitting.torch, "compile", compile_step)
    found = train(make(), tmp_path / "compiled", compile=True)
    assert compiled == [{"fullgraph": True}]
    assert found == pytest.approx(expected, rel=1e-4)


def test_channels_last_reaches_weights_and_images_and_nothing_that_is_saved(tmp_path):
    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            first = pl_module.model.encoder.layers[0]
            assert first.weight.is_contiguous(memory_format=torch.channels_last)
            if not seen:
                first.register_forward_hook(lambda module, inputs, output: seen.append(layouts(*inputs, output)))

    def layouts(*tensors):
        return [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors]

    seen = []
    expected = train(fsq_training(), tmp_path / "plain")
    module = fsq_training(channels_last=True)
    found = train(module, tmp_path / "last", [Look()])
    assert seen
    assert all(all(each) for each in seen)
    assert found == pytest.approx(expected, rel=1e-3)
    assert all(value.is_contiguous() for value in module.model.state_dict().values())


@pytest.mark.parametrize("tf32", [True, False])
def test_tensor_float32_is_set_in_training_and_not_after(tf32, tmp_path):
    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            found.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision))

    found = []
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    train(prior_training(), tmp_path, [Look()], tf32=tf32)
    assert set(found) == {("tf32", "tf32") if tf32 else ("ieee", "ieee")}
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
