import gc
import weakref
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.batch_invariance import BASE
from stage2_prior.sampling.sampler import (
    classes_in_turn,
    draw,
    image_noise,
    prefix_lengths,
    process_logits,
    sample,
    sample_images,
)
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import LAYOUT, build

NONE_BEFORE = torch.zeros(1, 0, dtype=torch.int64)
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


@settings(max_examples=40)
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
    cut = process_logits(torch.tensor(tenths)[None], chosen, NONE_BEFORE).softmax(-1)[0].numpy()
    np.testing.assert_allclose(cut, expected, atol=1e-6)


@pytest.mark.parametrize("chosen", SETTINGS)
def test_frequencies_are_those_of_the_exact_distribution(prior, chosen):
    """The joint distribution of two codes, drawn at once, against the product of the exact conditional ones."""
    layout = CodeLayout(((1, 2),), (5,))
    n, label = 4000, 1
    model = build(type(prior), layout, std=0.4 if type(prior) is Transformer else 0.3)
    drawn = sample(model, torch.full((n,), label), image_noise(0, range(n), 2), chosen).codes.numpy()
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    with torch.no_grad():
        own, unconditional = (log_softmax(model(pairs, labels).numpy()) for labels in (torch.full((25,), label), None))
    scales = np.linspace(1, chosen.guidance, 2) if chosen.guidance_schedule == "linear" else [chosen.guidance] * 2
    expected = np.ones(25)
    for t, scale in enumerate(scales):
        logits = unconditional[:, t] + scale * (own[:, t] - unconditional[:, t])
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
        assert torch.equal(process_logits(logits, SamplingSettings(**off), NONE_BEFORE), logits)


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
        {"guidance": 3.0, "guidance_interval": (0.99, 1.0)},
        {"precision": "float32"},
        {"processors": [lambda logits, codes: logits]},
    ],
    ids=lambda off: " ".join(f"{name}={value}" for name, value in off.items() if name != "processors") or "processors",
)
def test_codes_are_the_same_with_every_off_value(prior, off):
    labels = classes_in_turn(20, range(2))
    plain = sample_images(prior, labels, 0).codes
    assert torch.equal(sample_images(prior, labels, 0, settings=SamplingSettings(**off)).codes, plain)
    assert len(plain.unique(dim=0)) > 10


@pytest.mark.parametrize("layout", [LAYOUT, CodeLayout(((3, 3),), (5,)), CodeLayout(((2, 2), (3, 4)), (3, 5))])
def test_stepwise_likelihood_is_the_teacher_forced_one(prior, layout):
    """Log-probabilities of the codes, from the logits that they were drawn by, whatever they were drawn with."""
    model, labels = build(type(prior), layout), torch.tensor([0, 1, -1])
    for chosen in (SamplingSettings(), SamplingSettings(guidance=2.0, top_p=0.9, temperature=0.8)):
        codes, log_probs = sample(model, labels, image_noise(1, range(3), layout.length), chosen)
        with torch.no_grad():
            expected = -model.nats(codes, labels)
        torch.testing.assert_close(log_probs, expected, atol=1e-4, rtol=1e-4)


def test_image_is_the_same_in_any_batch(prior, two_threads):
    """In cuts that are those of micro-batches and others, on any number of threads; rows of the null class too."""
    model = build(type(prior), CodeLayout(((6, 6),), (64,)), std=0.3)
    n = BASE + 5
    labels, chosen = classes_in_turn(n, range(2)), SamplingSettings(guidance=2.0, top_p=0.95)
    labels[::3] = -1
    together = sample_images(model, labels, 7, settings=chosen)
    assert not torch.equal(together.codes, sample_images(model, labels, 8, settings=chosen).codes)
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for cuts in ([BASE], [1, 5, BASE + 1]):
            parts = [sample_images(model, labels[a:b], 7, a, chosen) for a, b in pairwise([0, *cuts, n])]
            for found, expected in zip(zip(*parts, strict=True), together, strict=True):
                assert torch.equal(torch.cat(found), expected)


def test_images_of_the_null_class_do_not_depend_on_the_others(prior):
    """A part-filled micro-batch of the null class computes nothing twice, as a full one."""
    rows, chosen = [], SamplingSettings(guidance=3.0)
    incremental = prior.incremental
    prior.incremental = lambda labels: rows.append(len(labels)) or incremental(labels)
    nothing = torch.full((3,), -1)
    alone = sample_images(prior, nothing, 0, settings=chosen)
    assert max(rows) <= BASE
    mixed = sample_images(prior, torch.tensor([-1, -1, -1, 0, 1]), 0, settings=chosen)
    assert torch.equal(mixed.codes[:3], alone.codes)
    assert torch.equal(mixed.log_probs[:3], alone.log_probs)


def test_nothing_of_a_sampling_outlives_it(prior):
    """Without a garbage collection: the caches of finished micro-batches would pile up else."""
    kept, incremental = [], prior.incremental

    def watched(labels):
        steps = incremental(labels)
        kept.append(weakref.ref(steps))
        state = vars(steps).get("step") or steps.stack
        kept.append(weakref.ref(state))
        return steps

    prior.incremental = watched
    gc.disable()
    try:
        for chosen in (SamplingSettings(), SamplingSettings(guidance=2.0)):
            sample_images(prior, classes_in_turn(40, range(2)), 0, settings=chosen)
        assert len(kept) >= 4
        assert [reference() for reference in kept] == [None] * len(kept)
    finally:
        gc.enable()


def test_noise_is_uniform_and_streams_are_distinct():
    noise = image_noise(0, range(500), 20)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert chisquare(np.histogram(noise.numpy(), bins=20, range=(0, 1))[0]).pvalue > 1e-3
    assert len(noise.unique()) > 0.99 * noise.numel()
    assert not torch.equal(image_noise(1, [0], 20), image_noise(0, [1], 20))


def test_known_codes_are_held(prior):
    known = torch.tensor([[3, -1, -1, 0, -1, 4]])
    codes, log_probs = sample(prior, torch.tensor([0]), image_noise(0, [0], 6), known=known)
    assert codes[0, [0, 3, 5]].tolist() == [3, 0, 4]
    assert (log_probs[0] == 0).tolist() == [True, False, False, True, False, True]


def test_known_codes_are_held_in_passes(prior):
    known = torch.full((3, 6), -1)
    known[:, 1] = torch.tensor([0, 1, 2])
    labels = torch.tensor([0, 1, 0])
    drawn = sample_images(prior, labels, 0, known=known).codes
    assert drawn[:, 1].tolist() == [0, 1, 2]
    assert torch.equal(sample_images(prior, labels[2:], 0, 2, known=known[2:]).codes, drawn[2:])


def test_a_prefix_ends_before_the_first_code_to_be_drawn_and_before_the_last():
    known = torch.tensor([[0, 1, -1, 2], [0, 0, 0, 0], [-1, 0, 1, 2], [3, 2, 0, -1]])
    assert prefix_lengths(known) == [2, 3, 0, 3]


def test_a_prefix_goes_through_the_prior_at_once(prior):
    """As drawing it would have: codes that are drawn after it are those that follow it in a whole drawing."""
    labels, noise = torch.tensor([0, 1]), image_noise(0, range(2), 6)
    whole = sample(prior, labels, noise)
    for length in range(1, 7):
        known = whole.codes.clone()
        known[:, length:] = -1
        codes, log_probs = sample(prior, labels, noise, known=known, prefix=min(length, 5))
        assert torch.equal(codes, whole.codes)
        torch.testing.assert_close(log_probs[:, length:], whole.log_probs[:, length:], atol=1e-5, rtol=1e-5)


def test_images_with_prefixes_do_not_depend_on_one_another(prior):
    labels = torch.zeros(5, dtype=torch.int64)
    known = torch.full((5, 6), -1)
    known[1, :2], known[3, :4], known[4, :2] = 1, 2, 0
    together = sample_images(prior, labels, 0, known=known)
    for i in range(5):
        alone = sample_images(prior, labels[i : i + 1], 0, i, known=known[i : i + 1])
        assert torch.equal(alone.codes, together.codes[i : i + 1])
        assert torch.equal(alone.log_probs, together.log_probs[i : i + 1])


def test_codes_are_seen_as_they_are_drawn(prior):
    seen = {image: [] for image in range(3, 8)}

    def watch(images, codes):
        for image, row in zip(images, codes.tolist(), strict=True):
            seen[image].append(row)

    drawn = sample_images(prior, classes_in_turn(5, range(2)), 0, first=3, on_position=watch)
    for image, row in zip(seen, drawn.codes.tolist(), strict=True):
        assert seen[image] == [row[: t + 1] for t in range(6)]


def test_rules_of_ones_own(prior):
    """One that forbids the code before, which the codes before are needed for."""

    def no_repetition(logits, codes):
        return logits.scatter(1, codes[:, -1:], -torch.inf) if codes.shape[1] else logits

    codes = sample_images(
        prior, classes_in_turn(50, range(2)), 0, settings=SamplingSettings(processors=[no_repetition])
    ).codes
    assert (codes[:, 1:] != codes[:, :-1]).all()
    plain = sample_images(prior, classes_in_turn(50, range(2)), 0).codes
    assert not (plain[:, 1:] != plain[:, :-1]).all()


def test_logits_that_are_not_finite_are_refused(prior):
    nothing = SamplingSettings(processors=[lambda logits, codes: torch.full_like(logits, -torch.inf)])
    with pytest.raises(ValueError, match="logits that codes are drawn from are not finite"):
        sample_images(prior, torch.tensor([0]), 0, settings=nothing)
    next(prior.parameters()).data[0] = torch.nan
    with pytest.raises(ValueError, match="the prior's weights are damaged or its training diverged"):
        sample_images(prior, classes_in_turn(20, range(2)), 0)


@pytest.mark.parametrize("label", [2, -2])
def test_labels_that_do_not_exist_are_refused(prior, label):
    with pytest.raises(ValueError, match="labels are 0 to 1, or -1 for none, got"):
        sample_images(prior, torch.tensor([0, label]), 0)


def test_drawn_codes_can_be_trained_on(prior):
    """They are drawn without what gradients need, which tensors can carry on with them."""
    labels = classes_in_turn(3, range(2))
    codes = sample_images(prior, labels, 0).codes
    prior.nats(codes, labels).sum().backward()
    assert not codes.is_inference()
    assert all(parameter.grad is not None for parameter in prior.parameters())


def test_low_temperature_takes_the_likeliest(prior):
    labels = torch.tensor([0, 1])
    for temperature in (1e-4, 1e-30, 0.0):
        cold = sample(prior, labels, image_noise(0, range(2), 6), SamplingSettings(temperature=temperature)).codes
        assert torch.equal(prior(cold, labels).argmax(-1), cold)


def test_draw_never_takes_an_impossible_code():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    assert draw(logits, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 3, 3]


def test_classes_in_turn():
    assert classes_in_turn(5, range(3)).tolist() == [0, 1, 2, 0, 1]
    assert classes_in_turn(2, range(0)).tolist() == [-1, -1]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_that_no_stream_has_are_refused(seed):
    with pytest.raises(ValueError, match="seed is from 0"):
        image_noise(seed, range(2), 3)
