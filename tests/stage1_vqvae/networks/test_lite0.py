import numpy as np
import pytest
import torch
from torch import nn

from stage1_vqvae.networks import lite0
from stage1_vqvae.networks.lite0 import CHANNELS, POOLED, STRIDES, Lite0, PooledLite0, as_rgb
from stage1_vqvae.perceptual import Perceptual, distance

pytestmark = pytest.mark.skipif(not lite0.is_installed(), reason="pip install 'vqvae-prior[lite0]'")


@pytest.fixture(scope="module")
def whole():
    return lite0.pretrained().eval()


@pytest.fixture(scope="module")
def every():
    return Lite0(range(len(CHANNELS)))


def test_layers_are_those_of_the_packages_network(whole, every):
    images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64).sin()
    with torch.no_grad():
        found, expected = every(images), whole.extract_features(images)
        torch.testing.assert_close(PooledLite0()(images), expected.mean((2, 3)), rtol=1e-3, atol=1e-4)
        head = whole._swish(whole._bn1(whole._conv_head(found[-1])))
        torch.testing.assert_close(head, expected, rtol=1e-3, atol=1e-4)
    shapes = [(channels, 64 // stride, 64 // stride) for channels, stride in zip(CHANNELS, STRIDES, strict=True)]
    assert [tuple(layer.shape[1:]) for layer in found] == shapes
    assert expected.shape[1] == POOLED
    some = Lite0([5, 0])
    assert len(some.blocks) == 5
    assert all(torch.equal(one, found[layer]) for layer, one in zip((0, 5), some(images), strict=True))


def test_nothing_of_it_is_trained_saved_or_moved_by_a_training(every):
    module = nn.Sequential(Lite0([1]), nn.Linear(1, 1)).train()
    assert set(module.state_dict()) == {"1.weight", "1.bias"}
    without_versions = dict(module.state_dict())  # as averages and distributed checkpoints give it
    module.load_state_dict(without_versions)
    assert set(without_versions) == {"1.weight", "1.bias"}
    assert len(list(module.parameters())) == 2
    assert not any(part.training for part in module[0].modules())
    before = [buffer.clone() for buffer in module[0].buffers()]
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    module[0](images)[0].sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(torch.equal(*pair) for pair in zip(before, module[0].buffers(), strict=True))
    assert {buffer.device.type for buffer in module[0].to("meta").buffers()} == {"meta"}


def test_building_one_draws_no_random_numbers():
    before = torch.get_rng_state()
    Lite0([0])
    assert torch.equal(torch.get_rng_state(), before)


def test_grey_is_repeated_and_transparency_lies_on_white():
    grey, alpha = torch.rand(2, 1, 3, 3) * 2 - 1, torch.rand(2, 1, 3, 3) * 2 - 1
    colour = torch.rand(2, 3, 3, 3) * 2 - 1
    assert torch.equal(as_rgb(colour), colour)
    assert torch.equal(as_rgb(grey), torch.cat([grey] * 3, dim=1))
    part = (alpha.numpy() + 1) / 2
    np.testing.assert_allclose(as_rgb(torch.cat([colour, alpha], 1)), colour.numpy() * part + 1 - part, atol=1e-6)
    np.testing.assert_allclose(
        as_rgb(torch.cat([grey, alpha], 1)), (grey.numpy() * part + 1 - part).repeat(3, 1), atol=1e-6
    )


def test_distance_of_features_in_numpy():
    one, other = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    a, b = (part.numpy() / np.linalg.norm(part.numpy(), axis=1, keepdims=True) for part in (one, other))
    assert distance(one, other).item() == pytest.approx(((a - b) ** 2).sum(1).mean(), rel=1e-5)
    assert distance(3 * one, one).item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(distance(torch.zeros(1, 2, 1, 1), one[:1, :2, :1, :1]))


def test_perceptual_is_the_mean_over_layers_and_its_gradient_is_the_reconstructions(every):
    perceptual = Perceptual([1, 3])
    images, other = (torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(2))
    other.requires_grad_()
    pairs = [(every(other)[layer], every(images)[layer]) for layer in (1, 3)]
    expected = sum(distance(*pair).item() for pair in pairs) / 2
    found = perceptual(other, images)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert other.grad.abs().sum() > 0
    assert perceptual(images, images).item() == 0


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_perceptual_takes_images_of_every_number_of_channels(channels):
    perceptual = Perceptual([0])
    images = torch.rand(1, channels, 16, 16) * 2 - 1
    assert perceptual(images * 0.9, images).item() > 0


def test_what_is_missing_or_wrong_ends_in_a_line(monkeypatch):
    with pytest.raises(ValueError, match=r"layers are one or more of 0 to 16, got \[17\]"):
        Lite0([17])
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"two packages: pip install 'vqvae-prior\[lite0\]'"):
        Perceptual()
