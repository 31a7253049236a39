import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.pixelcnn.stack import GatedStack
from stage2_prior.prior import FullRecompute
from stage2_prior.sampling.sampler import image_noise, sample
from stage2_prior.sampling.settings import SamplingSettings
from tests.support.graph_emulator import emulate, move

SQUARE = CodeLayout(((4, 4),), (5,))
WIDE = CodeLayout(((3, 5),), (4,))
TALL = CodeLayout(((5, 1),), (4,))
ROW = CodeLayout(((6,),), (4,))
TWO_LEVELS = CodeLayout(((2, 3), (4, 6)), (3, 5))
SHRINKING = CodeLayout(((6,), (3, 2), (2, 2)), (5, 4, 3))
LAYOUTS = [SQUARE, WIDE, TALL, ROW, TWO_LEVELS, SHRINKING]
VARIANTS = [{}, {"kernel": 5, "layers": 2}, {"attention_every": 2, "heads": 2}]
LABELS = torch.tensor([0, -1, 2])


def build(layout, **settings):
    torch.manual_seed(0)
    prior = PixelCNN(layout, num_classes=3, **{"width": 8, "layers": 4, "dropout": 0.5, **settings}).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(1.5)  # so that logits are of the order of one and not all alike
    return prior


def random_codes(layout, batch):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, layout.length, generator=generator) * layout.codebook_size_at()).long()


def stepwise(steps, codes):
    """Logits [B, T, K] of the incremental form that is fed the codes."""
    return torch.stack([steps.next_logits(codes[:, t - 1] if t else None) for t in range(codes.shape[1])], dim=1)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_cached_logits_are_those_of_forward(layout, settings):
    prior, codes = build(layout, **settings), random_codes(layout, 3)
    expected = prior(codes, LABELS)
    assert expected[expected.isfinite()].std() > 0.1
    torch.testing.assert_close(stepwise(prior.incremental(LABELS), codes), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("layout", [WIDE, TWO_LEVELS, ROW], ids=lambda layout: str(layout.grids))
def test_codes_drawn_with_the_same_noise_are_those_of_the_plain_loop(layout, settings, monkeypatch):
    prior, noise = build(layout, **settings), image_noise(0, range(3), layout.length)
    for controls in (SamplingSettings(), SamplingSettings(top_k=3, guidance=2.0)):
        cached = sample(prior, LABELS, noise, controls).codes
        with monkeypatch.context() as patch:
            patch.setattr(prior, "incremental", lambda labels: FullRecompute(prior, labels))
            plain = sample(prior, LABELS, noise, controls).codes
        assert torch.equal(cached, plain)
    assert len(cached.unique(dim=0)) > 1


@torch.no_grad()
def test_two_at_once_do_not_disturb_each_other():
    prior, codes = build(TWO_LEVELS), random_codes(TWO_LEVELS, 2)
    one, other = (prior.incremental(torch.tensor([label])) for label in (0, 1))
    found = [
        [steps.next_logits(codes[i : i + 1, t - 1] if t else None)[0] for i, steps in enumerate((one, other))]
        for t in range(TWO_LEVELS.length)
    ]
    expected = prior(codes, torch.tensor([0, 1]))
    torch.testing.assert_close(torch.stack([torch.stack(x) for x in found], 1), expected, atol=1e-5, rtol=0)


def test_an_image_costs_no_more_than_one_forward_pass():
    layout = CodeLayout(((8, 8),), (16,))
    prior, codes = build(layout, layers=6, width=16), random_codes(layout, 2)
    labels = LABELS[:2]
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        prior(codes, labels)
    with FlopCounterMode(display=False) as cached:
        stepwise(prior.incremental(labels), codes)
    assert 0.5 < cached.get_total_flops() / forward.get_total_flops() <= 1.05


@torch.no_grad()
def test_conditions_are_computed_once_a_grid():
    prior, calls = build(TWO_LEVELS), []
    for level, stack in enumerate(prior.grid_stacks):
        stack.condition.register_forward_hook(lambda *_, level=level: calls.append(level))
    stepwise(prior.incremental(LABELS), random_codes(TWO_LEVELS, 3))
    assert calls == [0, 1]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("layout", [WIDE, TALL, SHRINKING], ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_replayed_as_on_a_gpu_it_is_the_same(layout, settings, monkeypatch):
    """Recorded, then replayed by another user after the weights have changed and moved."""
    emulate(monkeypatch)
    prior, codes = build(layout, **settings), random_codes(layout, 3)
    stepwise(prior.incremental(LABELS.flip(0)), codes.flip(0))
    for parameter in prior.parameters():
        parameter.mul_(0.9)
    move(prior)
    steps = prior.incremental(LABELS)
    recorded = dict(steps.stack.graphs.recorded)
    assert recorded
    torch.testing.assert_close(stepwise(steps, codes), prior(codes, LABELS), atol=1e-5, rtol=0)
    assert len(steps.stack.graphs.recorded) <= 2 * -(-layout.lengths[-1] // 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_replayed_on_a_gpu_it_is_the_same():
    prior, codes = build(TWO_LEVELS, attention_every=2, heads=2).cuda(), random_codes(TWO_LEVELS, 3).cuda()
    expected, stacks = prior(codes, LABELS.cuda()), []
    for _ in range(2):  # recorded, then replayed by another user
        steps = prior.incremental(LABELS.cuda())
        torch.testing.assert_close(stepwise(steps, codes), expected, atol=1e-4, rtol=1e-4)
        stacks.append(steps.stack)
        del steps
    assert stacks[0] is stacks[1]
    assert stacks[0].graphs.recorded


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_a_prefix_may_be_taken_at_once(layout, settings):
    prior, codes = build(layout, **settings), random_codes(layout, 3)
    expected = prior(codes, LABELS)
    for length in range(1, layout.length):
        steps = prior.incremental(LABELS)
        steps.prefill(codes[:, :length])
        for t in range(length, min(length + 3, layout.length)):
            torch.testing.assert_close(steps.next_logits(codes[:, t - 1]), expected[:, t], atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("layout", [WIDE, TWO_LEVELS], ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_rows_go_on_as_others_would_have(layout, settings):
    prior, codes, rows = build(layout, **settings), random_codes(layout, 3), torch.tensor([2, 0, 2])
    expected = prior(codes, LABELS)[rows]
    for turn in (1, 4, layout.lengths[0], layout.length - 2):
        steps = prior.incremental(LABELS)
        for t in range(turn):
            steps.next_logits(codes[:, t - 1] if t else None)
        steps.select(rows)
        for t in range(turn, layout.length):
            torch.testing.assert_close(steps.next_logits(codes[rows, t - 1]), expected[:, t], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layout", "positions"), [(WIDE, 6), (TWO_LEVELS, 5 + 6), (CodeLayout(((8, 8),), (5,)), 6)])
def test_a_trial_is_of_a_few_positions(layout, positions):
    """The first two of the first two rows, the first of the last row, and the last; of every grid."""
    prior, codes = build(layout), random_codes(layout, 3)
    found = prior.trial_logits(LABELS, codes)
    assert found.shape == (positions, 3, layout.vocabulary)
    size = layout.codebook_sizes[0]
    torch.testing.assert_close(found[0, :, :size], prior(codes, LABELS)[:, 0, :size], atol=1e-5, rtol=0)


@torch.no_grad()
def test_passes_share_one_copy_of_the_weights(monkeypatch):
    prior, made = build(TWO_LEVELS), []
    folded = GatedStack.folded
    monkeypatch.setattr(GatedStack, "folded", lambda stack: made.append(stack) or folded(stack))
    with prior.frozen():
        for _ in range(3):
            stepwise(prior.incremental(LABELS), random_codes(TWO_LEVELS, 3))
    assert made == prior.grid_stacks
