import itertools

import pytest
import torch

from pipelines.posterior_collapse.pixel_decoder import PixelDecoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return PixelDecoder(dim=3, downsample_factor=2, width=8, layers=4)


def test_a_pixel_depends_on_all_before_it_and_on_none_after(decoder):
    latents = torch.randn(1, 3, 3, 3)
    pixels = torch.rand(1, 1, 6, 6).round()
    for place in (0, 7, 22, 35):
        point = pixels.clone().requires_grad_()
        decoder(point, latents).flatten()[place].backward()
        gradient = point.grad.flatten() != 0
        assert not gradient[place:].any()
        assert gradient[:place].all()


def test_a_pixel_depends_on_the_latents_of_later_places_too(decoder):
    latents = torch.randn(1, 3, 3, 3, requires_grad=True)
    decoder(torch.zeros(1, 1, 6, 6), latents)[0, 0, 2, 2].backward()
    assert latents.grad[0, :, 2, 2].abs().sum() > 0


def test_probabilities_of_all_images_sum_to_one():
    torch.manual_seed(1)
    decoder = PixelDecoder(dim=2, downsample_factor=2, width=4, layers=2)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8))).view(-1, 1, 2, 4)
    latents = torch.randn(1, 2, 1, 2).expand(len(images), -1, -1, -1)
    assert (-decoder.nats(images, latents)).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_drawn_images_have_the_distribution_of_the_pixels():
    torch.manual_seed(2)
    decoder = PixelDecoder(dim=2, downsample_factor=2, width=4, layers=2)
    latents = torch.randn(1, 2, 1, 1).expand(4000, -1, -1, -1)
    drawn = decoder.draw(latents, (2, 2), seed=0)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        expected = (-decoder.nats(images, latents[:16])).exp()
    numbers = (drawn.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    found = torch.bincount(numbers, minlength=16) / 4000
    assert (found - expected).abs().max() < 0.03
    assert torch.equal(drawn, decoder.draw(latents, (2, 2), seed=0))
