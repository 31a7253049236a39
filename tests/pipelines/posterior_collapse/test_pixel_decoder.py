import itertools

import pytest
import torch

from pipelines.posterior_collapse.pixel_decoder import PixelDecoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return PixelDecoder(dim=3, image_size=(6, 6), downsample_factor=2, width=8, layers=4).double()


def logits(decoder, pixels, latents):
    """Log-odds of white at each pixel in raster order, ``[B, H * W]``."""
    found = decoder(pixels, latents)
    return (found[..., 1] - found[..., 0]).flatten(1)


@torch.no_grad()
def test_a_pixel_depends_on_all_before_it_and_on_none_after(decoder):
    latents, pixels = torch.randn(1, 3, 3, 3).double(), torch.randint(2, (1, 1, 6, 6)).double()
    base = logits(decoder, pixels, latents)[0]
    for position in range(36):
        changed = pixels.flatten().clone()
        changed[position] = 1 - changed[position]
        moved = (logits(decoder, changed.view(1, 1, 6, 6), latents)[0] - base).abs() > 1e-12
        assert not moved[: position + 1].any()
        assert moved[position + 1 :].all()


def test_a_pixel_depends_on_the_latents_of_later_positions_too(decoder):
    latents = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    logits(decoder, torch.zeros(1, 1, 6, 6), latents)[0, 2 * 6 + 2].backward()
    assert latents.grad[0, :, 2, 2].abs().sum() > 0


def test_probabilities_of_all_images_sum_to_one():
    torch.manual_seed(1)
    decoder = PixelDecoder(dim=2, image_size=(2, 4), downsample_factor=2, width=4, layers=2)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8))).view(-1, 1, 2, 4)
    latents = torch.randn(1, 2, 1, 2).expand(len(images), -1, -1, -1)
    assert (-decoder.nats(images, latents)).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_drawn_images_have_the_distribution_of_the_pixels():
    torch.manual_seed(2)
    decoder = PixelDecoder(dim=2, image_size=(2, 2), downsample_factor=2, width=4, layers=2)
    latents = torch.randn(1, 2, 1, 1).expand(4000, -1, -1, -1)
    drawn = decoder.draw(latents, seed=0)
    assert drawn.shape == (4000, 1, 2, 2)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        expected = (-decoder.nats(images, latents[:16])).exp()
    numbers = (drawn.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    found = torch.bincount(numbers, minlength=16) / 4000
    assert (found - expected).abs().max() < 0.03
    assert torch.equal(drawn, decoder.draw(latents, seed=0))
