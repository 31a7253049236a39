from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.sampling.batch_invariance import SMALLEST
from stage2_prior.sampling.sampler import (
    SamplingSettings,
    classes_in_turn,
    draw,
    guided,
    image_noise,
    sample,
    sample_images,
    truncate,
)
from stage2_prior.transformer.model import Transformer

LAYOUT = CodeLayout(((2, 3),), (5,))
SETTINGS = [
    SamplingSettings(),
    SamplingSettings(temperature=1.5, top_k=3),
    SamplingSettings(temperature=0.7),
    SamplingSettings(top_k=3),
    SamplingSettings(top_p=0.8),
    SamplingSettings(min_p=0.3),
    SamplingSettings(top_k=4, min_p=0.2),
    SamplingSettings(top_p=0.9, min_p=0.2),
    SamplingSettings(guidance=2.0),
    SamplingSettings(temperature=1.3, top_k=4, top_p=0.9, min_p=0.1, guidance=3.0, guidance_schedule="linear"),
]


def build(kind, layout=LAYOUT, std=0.5, classes=2):
    torch.manual_seed(0)
    if kind is Transformer:
        model = Transformer(layout, classes, width=16, layers=1, heads=2)
    else:
        model = PixelCNN(layout, classes, width=8, layers=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


@pytest.fixture(params=[Transformer, PixelCNN])
def prior(request):
    return build(request.param)


def log_softmax(x):
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def reference(logits, settings):
    """The exact distribution that truncation leaves of one row, in numpy."""
    p = np.exp(log_softmax(np.asarray(logits, np.float64) / settings.temperature))
    order = np.argsort(-p, kind="stable")
    keep = np.ones(len(p), bool)
    if settings.top_k is not None:
        keep[order[settings.top_k :]] = False
        p = np.where(keep, p, 0)
        p /= p.sum()
    if settings.top_p is not None:
        kept = np.searchsorted(np.cumsum(p[order]), settings.top_p) + 1
        keep[order[kept:]] = False
    if settings.min_p is not None:
        keep &= p >= settings.min_p * p.max()
    p = np.where(keep, p, 0)
    return p / p.sum()


@settings(max_examples=40, deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40), min_size=2, max_size=9, unique=True),
    temperature=st.floats(0.3, 3),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.floats(0.05, 0.999),
    min_p=st.none() | st.floats(0.0, 1.0),
)
def test_truncation_equals_numpy(logits, temperature, top_k, top_p, min_p):
    tenths = np.array(logits) / 10
    expected, less, more = (
        reference(tenths, SimpleNamespace(temperature=temperature, top_k=top_k, top_p=share, min_p=ratio))
        for share, ratio in zip(*([x and x * k for k in (1, 1 - 1e-5, 1 + 1e-5)] for x in (top_p, min_p)), strict=True)
    )
    assume(np.array_equal(less > 0, more > 0))  # else what is kept is a matter of rounding
    chosen = SamplingSettings(temperature, top_k, top_p, min_p)
    cut = truncate(torch.tensor(tenths)[None] / temperature, chosen).softmax(-1)[0].numpy()
    np.testing.assert_allclose(cut, expected, atol=1e-6)


@pytest.mark.parametrize("chosen", SETTINGS)
def test_frequencies_are_those_of_the_exact_distribution(prior, chosen):
    """The joint distribution of two codes, drawn at once, against the product of the exact conditional ones."""
    layout = CodeLayout(((1, 2),), (5,))
    n, label = 4000, 1
    model = build(type(prior), layout, std=0.4 if type(prior) is Transformer else 0.3)
    drawn = sample(model, torch.full((n,), label), image_noise(0, range(n), 2), chosen).numpy()
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    with torch.no_grad():
        of_class, any_class = (log_softmax(model(pairs, labels).numpy()) for labels in (torch.full((25,), label), None))
    scales = np.linspace(1, chosen.guidance, 2) if chosen.guidance_schedule == "linear" else [chosen.guidance] * 2
    expected = np.ones(25)
    for t, scale in enumerate(scales):
        logits = any_class[:, t] + scale * (of_class[:, t] - any_class[:, t])
        expected *= [reference(row, chosen)[pair[t]] for row, pair in zip(logits, pairs, strict=True)]
    counts = np.bincount(drawn @ [5, 1], minlength=25)
    assert (expected > 0).sum() > 3
    assert (counts[expected == 0] == 0).all()
    likely = expected * n >= 5
    observed, wanted = (np.append(x[likely], x[~likely].sum()) for x in (counts, expected * n))
    assert chisquare(observed[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


def test_settings_that_are_off_change_nothing():
    logits = torch.randn(3, 7)
    for off in ({}, {"top_k": 7}, {"top_p": 1.0}, {"min_p": 0.0}):
        assert torch.equal(truncate(logits, SamplingSettings(**off)), logits)


@pytest.mark.parametrize(
    "off",
    [
        {"temperature": 1.0},
        {"top_k": None},
        {"top_k": 5},
        {"top_p": None},
        {"top_p": 1.0},
        {"min_p": None},
        {"min_p": 0.0},
        {"guidance": 1.0, "guidance_schedule": "linear"},
        {"precision": "float32"},
    ],
    ids=str,
)
def test_codes_are_the_same_with_every_off_value(prior, off):
    labels = classes_in_turn(20, 2)
    plain = sample_images(prior, labels, 0)
    assert torch.equal(sample_images(prior, labels, 0, settings=SamplingSettings(**off)), plain)
    assert len(plain.unique(dim=0)) > 10


def test_guidance_of_scale_one_is_the_prior_itself(prior):
    labels, noise = torch.tensor([0, 1]), image_noise(0, range(2), 6)
    plain = sample(prior, labels, noise)
    assert torch.equal(sample(prior, labels, noise, SamplingSettings(guidance_schedule="linear")), plain)
    steps = guided(prior, labels, 1.0, "linear")
    with torch.no_grad():
        torch.testing.assert_close(steps.next_logits(None), prior(plain, labels)[:, 0])


def test_guidance_without_classes_changes_nothing(prior):
    model = build(type(prior), classes=0)
    labels, noise = torch.tensor([-1, -1]), image_noise(0, range(2), 6)
    assert torch.equal(sample(model, labels, noise, SamplingSettings(guidance=3.0)), sample(model, labels, noise))


def test_guidance_of_any_class_costs_nothing(prior, monkeypatch):
    incremental, batches = prior.incremental, []

    def counting(labels):
        batches.append(len(labels))
        return incremental(labels)

    monkeypatch.setattr(prior, "incremental", counting)
    nothing, noise, chosen = torch.tensor([-1, -1]), image_noise(0, range(2), 6), SamplingSettings(guidance=3.0)
    assert torch.equal(sample(prior, nothing, noise, chosen), sample(prior, nothing, noise))
    sample(prior, torch.tensor([-1, 0]), noise, chosen)
    assert batches == [2, 2, 4]


@pytest.mark.parametrize("layout", [LAYOUT, CodeLayout(((3, 3),), (5,)), CodeLayout(((2, 2), (3, 4)), (3, 5))])
def test_stepwise_likelihood_is_the_teacher_forced_one(prior, layout):
    """Nats of codes that are held while they are drawn, from the logits that they were drawn by."""
    model = build(type(prior), layout)
    codes = sample(model, torch.tensor([0, 1, -1]), image_noise(1, range(3), layout.length))
    steps = model.incremental(torch.tensor([0, 1, -1]))
    nats = torch.zeros(3, dtype=torch.float64)
    for t in range(layout.length):
        log_p = steps.next_logits(codes[:, t - 1] if t else None).double().log_softmax(-1)
        nats -= log_p.gather(1, codes[:, t : t + 1])[:, 0]
    expected = -model.log_prob(codes, torch.tensor([0, 1, -1])).double()
    torch.testing.assert_close(nats, expected.detach(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_guidance_is_its_equation(prior, schedule):
    labels, codes = torch.tensor([0, 1]), torch.tensor([[4, 0, 1, 2, 3, 0], [1, 1, 1, 0, 0, 2]])
    scale = {"constant": 2.5, "linear": torch.tensor([1.0, 1.3, 1.6, 1.9, 2.2, 2.5])[:, None]}[schedule]
    with torch.no_grad():
        of_class, any_class = prior(codes, labels).log_softmax(-1), prior(codes).log_softmax(-1)
        expected = (any_class + scale * (of_class - any_class)).softmax(-1)
        steps = guided(prior, labels, 2.5, schedule)
        found = [steps.next_logits(codes[:, t - 1] if t else None).softmax(-1) for t in range(6)]
    torch.testing.assert_close(torch.stack(found, 1), expected, atol=1e-5, rtol=1e-4)


def test_guidance_of_several_codebooks(prior):
    layout = CodeLayout(((1, 2), (2, 2)), (3, 5))
    model, chosen = build(type(prior), layout), SamplingSettings(guidance=4.0, guidance_schedule="linear")
    codes = sample_images(model, classes_in_turn(40, 2), 0, settings=chosen)
    layout.check(codes)
    assert codes[:, 2:].max() == 4


def test_image_is_the_same_in_any_batch(prior):
    """In cuts that are those of passes and others, on any number of threads."""
    model = build(type(prior), CodeLayout(((6, 6),), (64,)), std=0.3)
    n = SMALLEST + 5
    labels, chosen = classes_in_turn(n, 2), SamplingSettings(guidance=2.0, top_p=0.95)
    together = sample_images(model, labels, 7, settings=chosen)
    assert not torch.equal(together, sample_images(model, labels, 8, settings=chosen))
    torch.set_num_threads(2)
    for cuts in ([SMALLEST], [1, 5, SMALLEST + 1]):
        parts = [sample_images(model, labels[a:b], 7, a, chosen) for a, b in pairwise([0, *cuts, n])]
        assert torch.equal(torch.cat(parts), together)


def test_logits_of_an_image_are_the_same_bits_in_any_batch(prior):
    """What the test above rests on, at a size at which bits differ from one number of rows to another."""
    model = build(type(prior), CodeLayout(((4, 4),), (300,)), std=0.1)
    seen = []

    class Spy:
        layout, num_classes, frozen = model.layout, model.num_classes, model.frozen

        def incremental(self, labels):
            steps = model.incremental(labels)

            class Steps:
                def next_logits(self, codes):
                    seen.append(steps.next_logits(codes).clone())
                    return seen[-1]

            return Steps()

    labels = classes_in_turn(9, 2)
    sample_images(Spy(), labels, 3)
    whole, length = torch.stack(seen)[:, :9], model.layout.length
    seen.clear()
    for i in (0, 4, 8):
        sample_images(Spy(), labels[i : i + 1], 3, i)
        assert torch.equal(torch.stack(seen[-length:])[:, i], whole[:, i])


def test_noise_is_uniform_and_streams_are_distinct():
    noise = image_noise(0, range(500), 20)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert chisquare(np.histogram(noise.numpy(), bins=20, range=(0, 1))[0]).pvalue > 1e-3
    assert len(noise.unique()) > 0.99 * noise.numel()
    assert not torch.equal(image_noise(1, [0], 20), image_noise(0, [1], 20))


def test_known_codes_are_held(prior):
    known = torch.tensor([[3, -1, -1, 0, -1, 4]])
    drawn = sample(prior, torch.tensor([0]), image_noise(0, [0], 6), known=known)
    assert drawn[0, [0, 3, 5]].tolist() == [3, 0, 4]


def test_known_codes_are_held_in_passes(prior):
    known = torch.full((3, 6), -1)
    known[:, 1] = torch.tensor([0, 1, 2])
    labels = torch.tensor([0, 1, 0])
    drawn = sample_images(prior, labels, 0, known=known)
    assert drawn[:, 1].tolist() == [0, 1, 2]
    assert torch.equal(sample_images(prior, labels[2:], 0, 2, known=known[2:]), drawn[2:])


def test_drawn_codes_can_be_trained_on(prior):
    """They are drawn without what gradients need, which tensors can carry on with them."""
    labels = classes_in_turn(3, 2)
    codes = sample_images(prior, labels, 0)
    prior.nats(codes, labels).sum().backward()
    assert not codes.is_inference()
    assert all(parameter.grad is not None for parameter in prior.parameters())


def test_low_temperature_takes_the_likeliest(prior):
    labels = torch.tensor([0, 1])
    cold = sample(prior, labels, image_noise(0, range(2), 6), SamplingSettings(temperature=1e-4))
    assert torch.equal(prior(cold, labels).argmax(-1), cold)


def test_draw_never_takes_an_impossible_code():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    assert draw(logits, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 3, 3]


def test_classes_in_turn():
    assert classes_in_turn(5, 3).tolist() == [0, 1, 2, 0, 1]
    assert classes_in_turn(2, 0).tolist() == [-1, -1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"guidance": -1},
        {"guidance": float("inf")},
        {"guidance_schedule": "cosine"},
        {"precision": "float16"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingSettings(**wrong)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_that_no_stream_has_are_refused(seed):
    with pytest.raises(ValueError, match="seed is from 0"):
        image_noise(seed, range(2), 3)
