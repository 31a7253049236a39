import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pipelines.posterior_collapse.bottlenecks import CodeLatents, GaussianLatents
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer


def test_the_rate_of_gaussian_latents_is_their_kl_from_the_standard_normal():
    torch.manual_seed(0)
    bottleneck = GaussianLatents(3)
    z = torch.randn(4, 3, 2, 2)
    mean, log_variance = bottleneck.moments(z).chunk(2, dim=1)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(bottleneck(z).rate, expected)


def test_gaussian_latents_are_drawn_from_their_moments():
    torch.manual_seed(0)
    bottleneck = GaussianLatents(1)
    z = torch.ones(20000, 1, 1, 1)
    mean, log_variance = bottleneck.moments(z[:1]).flatten().tolist()
    vectors = bottleneck(z).vectors
    assert vectors.mean().item() == pytest.approx(mean, abs=0.05)
    assert vectors.var().log().item() == pytest.approx(log_variance, abs=0.05)


def test_codes_cost_nothing_in_training():
    bottleneck = CodeLatents(EMAVectorQuantizer(dim=3, codebook_size=5)).eval()
    latents = bottleneck(torch.randn(4, 3, 2, 2))
    assert latents.rate.tolist() == [0.0] * 4
    assert latents.codes.shape == (4, 2, 2)
    torch.testing.assert_close(latents.vectors, bottleneck.quantizer.lookup(latents.codes))
