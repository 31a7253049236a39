import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import logistic, norm

from stage1_vqvae.likelihoods import DiscretizedLogistic, Gaussian
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE

FAMILIES = [(DiscretizedLogistic, logistic), (Gaussian, norm)]
LEVELS = torch.arange(256) / 127.5 - 1


def of_all_levels(likelihood, numbers):
    """Probabilities of one sub-pixel's 256 levels for its parameters ``[P]``."""
    outputs = torch.tensor(numbers)[None, :, None, None].expand(256, -1, 1, 1)
    return likelihood.log_probabilities(outputs, LEVELS[:, None, None, None]).flatten().exp()


@pytest.mark.parametrize("family", [DiscretizedLogistic, Gaussian])
@settings(max_examples=40)
@given(data=st.data(), mixture=st.integers(1, 3))
def test_probabilities_of_the_256_levels_sum_to_one(family, data, mixture):
    likelihood = family(mixture)
    number = st.floats(-12, 12, width=32)
    numbers = data.draw(st.lists(number, min_size=likelihood.outputs(1), max_size=likelihood.outputs(1)))
    assert of_all_levels(likelihood, numbers).sum().item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize(("family", "reference"), FAMILIES)
def test_nats_are_those_of_the_cumulative_distribution_over_bins(family, reference):
    rng = np.random.default_rng(0)
    likelihood = family(2)
    outputs = 0.5 * rng.normal(size=(2, 3, 3, 2, 4, 5))  # [B, C, parameter, component, H, W]
    levels = rng.integers(0, 256, (2, 3, 4, 5))
    levels[:, :, 0, :2] = [0, 255]
    places, scales = outputs[:, :, 0], np.exp(outputs[:, :, 1])
    weights = np.exp(outputs[:, :, 2]) / np.exp(outputs[:, :, 2]).sum(2, keepdims=True)
    level = levels[:, :, None]
    lower = np.where(level == 0, -np.inf, (level - 0.5) / 127.5 - 1)
    upper = np.where(level == 255, np.inf, (level + 0.5) / 127.5 - 1)
    bins = reference.cdf(upper, places, scales) - reference.cdf(lower, places, scales)
    expected = -np.log((weights * bins).sum(2)).sum((1, 2, 3))
    flat = torch.tensor(outputs.reshape(2, 18, 4, 5), dtype=torch.float32)
    found = likelihood.nats(flat, torch.tensor(levels) / 127.5 - 1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    means = (weights * places.clip(-1, 1)).sum(2)
    np.testing.assert_allclose(likelihood.images(flat).numpy(), means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [DiscretizedLogistic, Gaussian])
@pytest.mark.parametrize("location", [-1e4, -1.0, 0.3, 1e4])
@pytest.mark.parametrize("log_scale", [-1e3, -7.0, 7.0, 1e3])
def test_gradients_are_finite_at_extremes(family, location, log_scale):
    outputs = torch.tensor([location, log_scale])[None, :, None, None].repeat(256, 1, 1, 1).requires_grad_()
    nats = family().nats(outputs, LEVELS[:, None, None, None])
    nats.sum().backward()
    assert nats.isfinite().all()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("family", [DiscretizedLogistic, Gaussian])
def test_scales_beyond_a_bound_come_back_and_go_no_further(family):
    def gradient(level, log_scale):
        outputs = torch.tensor([0.0, log_scale])[None, :, None, None].requires_grad_()
        family().nats(outputs, LEVELS[None, None, None, level : level + 1]).backward()
        return outputs.grad[0, 1].item()

    far, near = 200, 128  # from a location of 0
    for log_scale in (-7.5, -20.0):
        assert gradient(far, log_scale) == pytest.approx(gradient(far, -7.0), rel=1e-5)  # wants a larger scale
        assert gradient(far, log_scale) < 0
    assert gradient(128, -9.0) <= 0  # and would not get smaller where it fits
    for log_scale in (7.5, 20.0):
        assert gradient(near, log_scale) == pytest.approx(gradient(near, 7.0), rel=1e-5)  # wants a smaller one
        assert gradient(near, log_scale) > 0


def test_a_scale_far_beyond_its_bound_is_trained_back():
    likelihood = DiscretizedLogistic()
    outputs = torch.tensor([0.0, -12.0])[None, :, None, None].requires_grad_()
    optimizer = torch.optim.Adam([outputs], 0.1)
    images = LEVELS[[90, 160]][:, None, None, None]
    for _ in range(400):
        optimizer.zero_grad()
        likelihood.nats(outputs.expand(2, -1, -1, -1), images).mean().backward()
        optimizer.step()
    assert -3 < outputs[0, 1].item() < 0


def test_training_moves_the_distribution_to_the_data():
    likelihood = DiscretizedLogistic(2)
    outputs = torch.randn(1, 6, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = LEVELS[[10, 10, 10, 200]][:, None, None, None]
    optimizer = torch.optim.Adam([outputs], 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        likelihood.nats(outputs.expand(4, -1, -1, -1), images).mean().backward()
        optimizer.step()
    least = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))  # entropy of the four images
    assert likelihood.nats(outputs.detach().expand(4, -1, -1, -1), images).mean().item() < least + 0.1


def test_a_component_at_least():
    with pytest.raises(ValueError, match="mixture is at least 1, got 0"):
        Gaussian(0)


@pytest.mark.parametrize("family", [DiscretizedLogistic, Gaussian])
def test_a_tokenizer_with_a_likelihood_is_a_distribution_of_images(family):
    """An image of one sub-pixel by two: p(x | codes) over all 256² images sums to one for every sequence of codes."""
    torch.manual_seed(0)
    quantizer = EMAVectorQuantizer(dim=2, codebook_size=3)
    shape = {"width": 4, "residual_width": 2, "residual_layers": 1, "downsample_factor": 2}
    model = VQVAE((2, 2), 1, quantizer, **shape, likelihood=family(2)).eval()
    assert model.layout.length == 1
    values = torch.tensor(list(itertools.product(range(256), repeat=2)))[:, :, None, None] / 127.5 - 1
    images = torch.zeros(256**2, 1, 2, 2)
    images[:, 0, 0] = values[:, :, 0, 0]
    dark = torch.full((256, 1, 2, 2), 0.0)
    for code in range(3):
        nats = model.nats(images, torch.full((len(images), 1), code)).double()
        # The lower two sub-pixels stay at one level: what they cost is the same throughout.
        rest = model.likelihood.log_probabilities(
            model.decode_latents([model.quantizer.lookup(torch.tensor([[[code]]]))]), dark[:1]
        )[0, 0, 1].double()
        assert (-nats).exp().sum().item() == pytest.approx(rest.sum().exp().item(), rel=1e-3)
    decoded = model.decode(torch.tensor([[0], [1]]))
    assert decoded.shape == (2, 1, 2, 2)
    assert decoded.abs().max() <= 1


def test_a_tokenizer_without_one_says_so():
    model = VQVAE(
        (4, 4), 1, EMAVectorQuantizer(2, 3), width=4, residual_width=2, residual_layers=1, downsample_factor=2
    )
    with pytest.raises(ValueError, match="has no likelihood: train it with stage1/likelihood"):
        model.nats(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, dtype=torch.int64))
