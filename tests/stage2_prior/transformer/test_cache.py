import gc

import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.transformer import cache as transformer_cache
from stage2_prior.transformer.cache import Step
from stage2_prior.transformer.model import Transformer

LAYOUT = CodeLayout(((2, 3), (3, 4)), (5, 9))
LABELS = torch.tensor([0, 2, -1])


def build(kv_heads=1, **options):
    torch.manual_seed(0)
    model = Transformer(LAYOUT, num_classes=3, width=16, layers=2, heads=4, kv_heads=kv_heads, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def codes_of(batch):
    return torch.stack([torch.randint(0, int(size), (batch,)) for size in LAYOUT.codebook_size_at()], dim=1)


def stepwise(steps, codes):
    return torch.stack([steps.next_logits(codes[:, t - 1] if t else None) for t in range(LAYOUT.length)], dim=1)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("bucket", [4, 7, 64])
@torch.no_grad()
def test_slots_to_come_are_masked(bucket, kv_heads, monkeypatch):
    """The step of fixed shapes that a GPU replays, run here as it is, each one twice as a recording does."""
    model, codes = build(kv_heads), codes_of(3)
    lengths = []

    class Twice(Step):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.bucket = bucket
            self.call = self.twice
            for cache in self.caches:
                cache.keys.fill_(3.0)
                cache.values.fill_(3.0)

        def twice(self, length, grid):
            lengths.append((length, grid))
            self.run(length, grid)
            return self.run(length, grid)

    monkeypatch.setattr(transformer_cache, "Step", Twice)
    found = stepwise(model.incremental(LABELS), codes)
    torch.testing.assert_close(found, model(codes, LABELS), atol=1e-5, rtol=1e-5)
    assert all(length % bucket == 0 or length == LAYOUT.length for length, _ in lengths)
    assert len(set(lengths)) <= -(-LAYOUT.length // bucket) + 1


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_cache_holds_a_key_and_a_value_for_each_of_their_heads(kv_heads):
    for cache in build(kv_heads).incremental(LABELS).step.caches:
        assert cache.keys.shape == cache.values.shape == (3, kv_heads, LAYOUT.length, 4)


@torch.no_grad()
def test_two_at_once_do_not_disturb_each_other():
    model, codes = build(), codes_of(2)
    one, other = (model.incremental(torch.tensor([label])) for label in (0, 1))
    found = [
        torch.cat([steps.next_logits(codes[i : i + 1, t - 1] if t else None) for i, steps in enumerate((one, other))])
        for t in range(LAYOUT.length)
    ]
    torch.testing.assert_close(torch.stack(found, 1), model(codes, torch.tensor([0, 1])), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_weights_are_taken_as_they_are_at_the_start():
    model, codes = build(), codes_of(3)
    stepwise(model.incremental(LABELS), codes)
    for parameter in model.parameters():
        parameter.mul_(0.9)
    torch.testing.assert_close(stepwise(model.incremental(LABELS), codes), model(codes, LABELS), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_replayed_on_a_gpu_it_is_the_same():
    model, codes = build().cuda(), codes_of(3).cuda()
    labels = LABELS.cuda()
    expected = model(codes, labels)
    for _ in range(2):  # recorded, then replayed by another user
        steps = model.incremental(labels)
        found = stepwise(steps, codes)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        step = steps.step
        del steps
        gc.collect()
    assert model.incremental(labels).step is step
    assert step.call.recorded
