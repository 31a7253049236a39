import gc
import weakref

import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.sampling import cuda_graph
from stage2_prior.sampling.batch_invariance import BASE
from stage2_prior.sampling.inpainting import complete_images
from stage2_prior.sampling.precision import in_precision, release
from stage2_prior.sampling.sampler import classes_in_turn, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.sliding_window import sample_larger_images
from stage2_prior.transformer.model import Transformer
from tests.support.graph_emulator import emulate

LAYOUT = CodeLayout(((3, 4),), (20,))
LOWER = SamplingSettings(precision="bfloat16", guidance=2.0)


@pytest.fixture(params=[Transformer, PixelCNN])
def prior(request):
    torch.manual_seed(0)
    if request.param is Transformer:
        model = Transformer(LAYOUT, 3, width=32, layers=2, heads=2)
    else:
        model = PixelCNN(LAYOUT, 3, width=16, layers=3, attention_every=2, heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def test_float32_is_the_prior_itself(prior):
    assert in_precision(prior, "float32") is prior
    assert next(prior.parameters()).dtype == torch.float32


@torch.no_grad()
def test_the_copy_follows_the_weights_and_stays_the_same_object(prior):
    lower = in_precision(prior, "bfloat16")
    assert {parameter.dtype for parameter in lower.parameters()} == {torch.bfloat16}
    assert in_precision(lower, "bfloat16") is lower
    codes = torch.randint(20, (5, 12))
    for _ in range(2):
        torch.testing.assert_close(lower(codes).float(), prior(codes), atol=0.05, rtol=0.05)
        for parameter in prior.parameters():
            parameter.mul_(-1.1)
        assert in_precision(prior, "bfloat16") is lower
    assert {parameter.dtype for parameter in prior.parameters()} == {torch.float32}


@torch.no_grad()
def test_cached_logits_are_near_those_of_float32(prior):
    lower, labels, codes = in_precision(prior, "bfloat16"), torch.tensor([0, 2, -1]), torch.randint(20, (3, 12))
    expected = prior(codes, labels)
    assert expected.std() > 0.1
    steps = lower.incremental(labels)
    found = torch.stack([steps.next_logits(codes[:, t - 1] if t else None) for t in range(12)], dim=1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_images_are_keyed_by_seed_and_index_alone(prior):
    n = BASE + 5
    labels = classes_in_turn(n, range(3))
    together = sample_images(prior, labels, 7, settings=LOWER).codes
    LAYOUT.check(together)
    parts = [sample_images(prior, labels[a:b], 7, a, LOWER).codes for a, b in ((0, 3), (3, BASE + 1), (BASE + 1, n))]
    assert torch.equal(torch.cat(parts), together)
    assert not torch.equal(sample_images(prior, labels, 8, settings=LOWER).codes, together)
    exact = sample_images(prior, labels, 7, settings=SamplingSettings(guidance=2.0)).codes
    assert (exact == together).float().mean() > 0.5  # the same noise through almost the same distributions


def test_completions_and_larger_images_too(prior):
    known = torch.full((2, 12), -1)
    known[:, 6:] = 4
    completed = complete_images(prior, torch.tensor([0, 1]), known, 0, candidates=3, settings=LOWER).codes
    LAYOUT.check(completed)
    assert (completed[:, 6:] == 4).all()
    larger = sample_larger_images(prior, torch.tensor([0]), 0, (4, 6), settings=LOWER).codes
    assert larger.shape == (1, 24)
    assert 0 <= larger.min() <= larger.max() < 20


def test_nothing_is_kept_after_a_release(prior, monkeypatch):
    emulate(monkeypatch)
    labels = torch.tensor([0, 1])
    sample_images(prior, labels, 0, settings=LOWER)
    sample_images(prior, labels, 0)
    copy = weakref.ref(in_precision(prior, "bfloat16"))
    gc.collect()
    owners = {*prior.modules(), *copy().modules()}
    kept = [weakref.ref(found) for owner, found in cuda_graph._recordings.items() if owner in owners]
    assert len(kept) == 2
    del owners
    gc.disable()
    try:
        release(prior)
        assert [reference() for reference in (copy, *kept)] == [None] * 3
    finally:
        gc.enable()
    sample_images(prior, labels, 0, settings=LOWER)
