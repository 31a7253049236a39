import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling import SamplingSettings, classes_in_turn, draw, guided, image_noise, sample, truncate
from stage2_prior.transformer import Transformer

LAYOUT = CodeLayout(((2, 3),), (5,))


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = Transformer(LAYOUT, num_classes=2, width=16, layers=1, heads=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def reference(logits, settings):
    """The exact distribution that a setting leaves, in numpy."""
    p = np.exp((logits - logits.max()) / settings.temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    keep = np.ones(len(p), bool)
    if settings.top_k is not None:
        keep[order[settings.top_k :]] = False
        p = np.where(keep, p, 0)
        p /= p.sum()
    if settings.top_p is not None:
        kept = np.searchsorted(np.cumsum(p[order]), settings.top_p) + 1
        keep[order[kept:]] = False
    p = np.where(keep, p, 0)
    return p / p.sum()


@settings(max_examples=40, deadline=None)
@given(
    logits=st.lists(st.floats(-4, 4), min_size=2, max_size=9, unique=True),
    temperature=st.floats(0.3, 3),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.floats(0.05, 0.999),
)
def test_truncation_equals_numpy(logits, temperature, top_k, top_p):
    chosen = SamplingSettings(temperature, top_k, top_p)
    logits = np.array(logits)
    cut = truncate(torch.tensor(logits)[None] / temperature, chosen).softmax(-1)[0].numpy()
    expected = reference(logits, chosen)
    if np.abs(np.cumsum(np.sort(expected)[::-1]) - (top_p or 2)).min() > 1e-6:  # else a matter of rounding
        np.testing.assert_allclose(cut, expected, atol=1e-9)


@pytest.mark.parametrize("chosen", [SamplingSettings(), SamplingSettings(1.5, 3), SamplingSettings(1, None, 0.8)])
def test_frequencies_are_those_of_the_exact_distribution(chosen):
    logits = torch.tensor([1.0, 0.5, -1.0, 2.0, 0.0])
    noise = image_noise(0, range(200), 100).flatten()
    cut = truncate(logits[None] / chosen.temperature, chosen)
    drawn = np.bincount(draw(cut.expand(len(noise), -1), noise).numpy(), minlength=5)
    expected = reference(logits.numpy().astype(np.float64), chosen) * len(noise)
    assert (drawn[expected == 0] == 0).all()
    assert chisquare(drawn[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_settings_that_are_off_change_nothing():
    logits = torch.randn(3, 7)
    for off in (SamplingSettings(), SamplingSettings(top_k=7), SamplingSettings(top_p=1.0)):
        assert torch.equal(truncate(logits, off), logits)


def test_guidance_is_its_equation(prior):
    labels, codes = torch.tensor([0, 1]), torch.tensor([[4, 0, 1, 2, 3, 0], [1, 1, 1, 0, 0, 2]])
    with torch.no_grad():
        of_class, any_class = prior(codes, labels).log_softmax(-1), prior(codes).log_softmax(-1)
        expected = (any_class + 2.5 * (of_class - any_class)).softmax(-1)
        steps = guided(prior, labels, 2.5)
        found = [steps.next_logits(codes[:, t - 1] if t else None).softmax(-1) for t in range(6)]
    torch.testing.assert_close(torch.stack(found, 1), expected, atol=1e-5, rtol=1e-4)


def test_image_is_the_same_in_any_batch(prior):
    labels = classes_in_turn(6, 2)
    together = sample(prior, labels, image_noise(7, range(6), 6))
    apart = [sample(prior, labels[i : i + 1], image_noise(7, [i], 6)) for i in range(6)]
    assert torch.equal(together, torch.cat(apart))
    assert not torch.equal(together, sample(prior, labels, image_noise(8, range(6), 6)))


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


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"guidance": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingSettings(**wrong)
