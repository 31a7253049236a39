import copy

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from pipelines.posterior_collapse.bottlenecks import CodeLatents
from pipelines.posterior_collapse.latent_pixels import LatentPixelModel, LatentPixelTraining
from stage1_vqvae.quantizers import EMAVectorQuantizer


class Dropped(LatentPixelTraining):
    """A training whose gradients are dropped at one step, as those that are not finite are."""

    drop = -1

    def on_before_optimizer_step(self, optimizer):
        if self.global_step == self.drop:
            optimizer.zero_grad()


def trained(drop, batches):
    torch.manual_seed(0)
    model = LatentPixelModel(CodeLatents(EMAVectorQuantizer(4, 6)), (8, 8), encoder_width=8, width=8, layers=2)
    training = Dropped(model, lambda module, steps: torch.optim.SGD(module.parameters(), 0.0))
    training.drop = drop
    seen = []
    training.on_train_batch_end = lambda *_: seen.append(copy.deepcopy(model.bottleneck.quantizer.state_dict()))
    silent = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    data = DataLoader([{"images": image} for image in batches], batch_size=4)
    Trainer(accelerator="cpu", max_epochs=1, barebones=False, **silent).fit(training, data)
    return seen


@pytest.mark.filterwarnings("ignore")
def test_a_skipped_step_moves_no_codebook_and_leaves_no_trace_in_the_next():
    batches = torch.randint(0, 2, (12, 8, 8, 1), dtype=torch.uint8) * 255
    started, skipped, last = trained(1, batches)
    assert all(torch.equal(value, started[name]) for name, value in skipped.items())
    _, expected = trained(-1, torch.cat([batches[:4], batches[8:]]))
    assert all(torch.equal(value, expected[name]) for name, value in last.items())
    assert not torch.equal(last["codebook"], skipped["codebook"])
