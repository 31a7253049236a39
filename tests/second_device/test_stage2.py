"""Priors, sampling, completion and sliding windows on the second device."""

import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.prior import FullRecompute
from stage2_prior.sampling import inpainting, sampler, sliding_window
from stage2_prior.sampling.inpainting import complete_images
from stage2_prior.sampling.sampler import sample, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.sliding_window import sample_larger_images
from stage2_prior.transformer.model import Transformer

ONE = CodeLayout(((2, 3),), (6,))
TWO = CodeLayout(((1, 1), (2, 2)), (5, 7))
ROW = CodeLayout(((4,),), (6,))
SMALL = {"width": 16, "layers": 2, "heads": 2}
PRIORS = {
    "transformer": lambda: Transformer(ONE, 3, **SMALL),
    "transformer with a head each": lambda: Transformer(ONE, 3, **SMALL, kv_heads=2, tied=True),
    "transformer of two grids": lambda: Transformer(TWO, 3, **SMALL),
    "transformer of a row": lambda: Transformer(ROW, 0, **SMALL),
    "pixelcnn": lambda: PixelCNN(ONE, 3, width=8, layers=2),
    "pixelcnn with attention": lambda: PixelCNN(ONE, 3, width=8, layers=2, attention_every=1, heads=2),
    "pixelcnn of two grids": lambda: PixelCNN(TWO, 3, width=8, layers=2, attention_every=[None, 1], heads=2),
    "pixelcnn of a row": lambda: PixelCNN(ROW, 0, width=8, layers=2),
}
SETTINGS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top k": {"top_k": 3},
    "top p": {"top_p": 0.9},
    "min p": {"min_p": 0.1},
    "guidance": {"guidance": 2.0},
    "guidance that rises": {"guidance": 2.0, "guidance_schedule": "linear"},
    "bfloat16": {"precision": "bfloat16"},
    "all": {"temperature": 0.9, "top_k": 4, "top_p": 0.9, "min_p": 0.05, "guidance": 1.5, "precision": "bfloat16"},
}
BATCH = 4


def inputs(prior, second):
    """Labels, codes, noise and codes to hold, on the second device."""
    length = prior.layout.length
    labels = torch.arange(BATCH) % 3 if prior.num_classes else torch.full((BATCH,), -1)
    codes = torch.zeros(BATCH, length, dtype=torch.int64)
    noise = torch.rand(BATCH, length, dtype=torch.float64)
    known = torch.full((BATCH, length), -1)
    return second.put((labels, codes, noise, known))


@pytest.mark.parametrize("name", PRIORS)
def test_training_step(name, second):
    prior = PRIORS[name]().train()
    labels, codes, _, _ = inputs(prior, second)
    prior = second.put(prior)
    with second.running():
        prior.nats(codes, labels).mean().backward()
        with torch.no_grad():
            prior.eval().log_prob(codes)


@pytest.mark.parametrize("grid", [0, 1])
def test_training_step_of_a_level(grid, second):
    prior = PRIORS["pixelcnn of two grids"]()
    labels, codes, _, _ = inputs(prior, second)
    level = second.put(prior.level(grid).train())
    with second.running():
        level.nats(codes, labels).mean().backward()


@pytest.mark.parametrize("name", PRIORS)
def test_sampling(name, second):
    prior = PRIORS[name]().eval()
    labels, _, noise, known = inputs(prior, second)
    prior = second.put(prior)
    with second.running():
        assert sample(prior, labels, noise).codes.device == labels.device
        sample(prior, labels, noise, known=known, prefix=1)


@pytest.mark.parametrize("name", PRIORS)
def test_guided_sampling(name, second):
    prior = PRIORS[name]().eval()
    labels, _, noise, _ = inputs(prior, second)
    prior = second.put(prior)
    with second.running():
        sample(prior, labels, noise, SamplingSettings(guidance=1.5))


@pytest.mark.parametrize("name", SETTINGS)
def test_controls(name, second):
    prior = PRIORS["transformer"]().eval()
    labels, _, noise, _ = inputs(prior, second)
    prior = second.put(prior)
    with second.running():
        sample(prior, labels, noise, SamplingSettings(**SETTINGS[name]))


def test_sampling_by_whole_passes_through_the_prior(second):
    prior = PRIORS["transformer"]().eval()
    labels, codes, _, _ = inputs(prior, second)
    prior = second.put(prior)
    with second.running(), torch.inference_mode():
        steps = FullRecompute(prior, labels)
        for position in range(2):
            steps.next_logits(codes[:, position - 1] if position else None)


@pytest.fixture
def reads(monkeypatch):
    """How often the host reads what was drawn, as it is allowed to when all is drawn."""
    found = []
    for module in (sampler, inpainting, sliding_window):
        monkeypatch.setattr(module, "check_finite", lambda drawn: found.append(drawn.codes.device.type))
    return found


LABELS = torch.tensor([0, -1, 2, 1])


@pytest.mark.parametrize("name", ["transformer", "pixelcnn"])
def test_images(name, second, reads):
    """The host reads labels and held codes, which lie on the CPU, and what was drawn, once."""
    prior = second.put(PRIORS[name]().eval())
    known = torch.full((BATCH, 6), -1)
    known[:2, 0] = 3
    with second.running():
        sample_images(prior, LABELS, seed=1, first=2, settings=SamplingSettings(guidance=1.5), known=known)
    assert reads == [second.device.type]


@pytest.mark.parametrize("name", ["transformer", "pixelcnn with attention"])
@pytest.mark.parametrize("candidates", [1, None])
def test_completion(name, candidates, second, reads):
    """Codes are held before and after those that are drawn."""
    prior = second.put(PRIORS[name]().eval())
    known = torch.full((BATCH, 6), -1)
    known[:2, 0], known[1:3, 4] = 3, 2
    with second.running():
        complete_images(prior, LABELS, known, 1, candidates, SamplingSettings(guidance=1.5))
    assert reads == [second.device.type]


@pytest.mark.parametrize("name", ["transformer", "pixelcnn", "pixelcnn with attention"])
def test_sliding_window(name, second, reads):
    prior = second.put(PRIORS[name]().eval())
    with second.running():
        assert sample_larger_images(prior, LABELS, 1, (3, 4)).codes.shape == (BATCH, 12)
    assert reads == [second.device.type]
