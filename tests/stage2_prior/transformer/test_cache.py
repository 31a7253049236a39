import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.prior import FullRecompute
from stage2_prior.transformer.model import Transformer
from tests.support.graph_emulator import emulate, move

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
def test_replayed_as_on_a_gpu_it_is_the_same(bucket, kv_heads, monkeypatch):
    """Recorded, then replayed by another user after the weights have changed and moved; later slots are masked."""
    emulate(monkeypatch, bucket)
    model, codes = build(kv_heads), codes_of(3)
    stepwise(model.incremental(LABELS.flip(0)), codes.flip(0))
    for parameter in model.parameters():
        parameter.mul_(0.9)
    move(model)
    steps = model.incremental(LABELS)
    with torch.inference_mode():
        for cache in steps.step.caches:
            cache.keys.fill_(3.0)
            cache.values.fill_(3.0)
    recorded = dict(steps.step.graphs.recorded)
    assert recorded
    torch.testing.assert_close(stepwise(steps, codes), model(codes, LABELS), atol=1e-5, rtol=1e-5)
    assert steps.step.graphs.recorded == recorded
    assert len(recorded) <= -(-LAYOUT.length // bucket) + 1


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


@pytest.mark.parametrize("kv_heads", [1, 4])
@torch.no_grad()
def test_a_prefix_may_be_taken_at_once(kv_heads):
    model, codes = build(kv_heads), codes_of(3)
    expected = model(codes, LABELS)
    for length in range(1, LAYOUT.length):
        steps = model.incremental(LABELS)
        steps.prefill(codes[:, :length])
        for t in range(length, min(length + 3, LAYOUT.length)):
            torch.testing.assert_close(steps.next_logits(codes[:, t - 1]), expected[:, t], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_go_on_as_others_would_have():
    model, codes, rows = build(2), codes_of(3), torch.tensor([2, 0, 2])
    expected = model(codes, LABELS)[rows]
    for turn in (1, 7, LAYOUT.length - 1):
        for steps in (model.incremental(LABELS), FullRecompute(model, LABELS)):
            for t in range(turn):
                steps.next_logits(codes[:, t - 1] if t else None)
            steps.select(rows)
            for t in range(turn, LAYOUT.length):
                found = steps.next_logits(codes[rows, t - 1])
                torch.testing.assert_close(found, expected[:, t], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_replayed_on_a_gpu_it_is_the_same():
    model, codes = build().cuda(), codes_of(3).cuda()
    labels = LABELS.cuda()
    expected = model(codes, labels)
    for _ in range(2):  # recorded, then replayed by another user
        steps = model.incremental(labels)
        torch.testing.assert_close(stepwise(steps, codes), expected, atol=1e-4, rtol=1e-4)
        step = steps.step
        del steps
    assert model.incremental(labels).step is step
    assert step.graphs.recorded
