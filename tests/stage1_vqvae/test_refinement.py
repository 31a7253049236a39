"""Codes by analysis by synthesis: against a search through all codes, and what it promises of any tokenizer."""

import itertools

import pytest
import torch
from torch import nn

from stage1_vqvae import VQVAE, VQVAE2, refinement
from stage1_vqvae.likelihoods import DiscretizedLogistic
from stage1_vqvae.one_level import OneLevelTokenizer
from stage1_vqvae.quantizers import EMAVectorQuantizer, Product, Residual
from stage1_vqvae.refinement import refined
from stage1_vqvae.tokenizer import Tokenizer


def vectors(dim=4, size=16):
    return EMAVectorQuantizer(dim, size, init=torch.randn(size, dim))


TOKENIZERS = {
    "one grid": lambda: VQVAE((16, 16), 3, vectors(), 8, 8, 1),
    "padding, one channel": lambda: VQVAE((12, 20), 1, vectors(), 8, 8, 1, padding=2),
    "residual": lambda: VQVAE((16, 16), 3, Residual(vectors(), depth=2), 8, 8, 1),
    "product": lambda: VQVAE((16, 16), 3, Product(vectors(), groups=2), 8, 8, 1),
    "two levels": lambda: VQVAE2((16, 16), 3, [vectors(), vectors()], 8, 8, 1),
    "likelihood": lambda: VQVAE((16, 16), 3, vectors(), 8, 8, 1, likelihood=DiscretizedLogistic()),
}


def made(name, images=5):
    torch.manual_seed(0)
    tokenizer = TOKENIZERS[name]().eval()
    for parameter in tokenizer.parameters():  # decoders that start at zero would not tell codes apart
        nn.init.normal_(parameter, std=0.3)
    return tokenizer, torch.rand(images, tokenizer.channels, *tokenizer.image_size) * 2 - 1


def errors(tokenizer, images, codes):
    """Squared error of each image, without what ``decode`` clips."""
    return (tokenizer.images_of(tokenizer.latents(codes)) - images).square().flatten(1).sum(1).detach()


class Patches(OneLevelTokenizer):
    """Every code draws a patch of 2 × 2 pixels by itself, by rotated axes; the encoder is a bad one."""

    def __init__(self, size):
        encoder, decoder = nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 2, stride=2, bias=False)
        axes, _ = torch.linalg.qr(torch.randn(4, 4))
        decoder.weight.data = 3 * axes.view(4, 1, 2, 2)
        super().__init__(size, 1, encoder, vectors(), decoder, 2)


def test_finds_the_best_of_all_codes_where_each_draws_by_itself():
    torch.manual_seed(1)
    tokenizer = Patches((8, 14)).eval()
    images = torch.randn(3, 1, 8, 14)
    first = tokenizer.encode(images)
    drawn = tokenizer.decoder(tokenizer.codebooks()[0].view(16, 4, 1, 1))[:, 0]  # [K, 2, 2]
    best = torch.empty_like(first)
    for image, row, column in itertools.product(range(3), range(4), range(7)):
        patch = images[image, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        best[image, 7 * row + column] = (drawn - patch).square().sum((1, 2)).argmin()
    assert (first != best).float().mean() > 0.5
    assert torch.equal(refined(tokenizer, images, first), best)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_image_gets_worse_and_codes_stay_in_their_books(name):
    tokenizer, images = made(name)
    first = tokenizer.encode(images)
    once, twice = (refined(tokenizer, images, first, sweeps) for sweeps in (1, 2))
    tokenizer.layout.check(twice)
    before, after, later = (errors(tokenizer, images, codes) for codes in (first, once, twice))
    assert (after <= before).all()
    assert (later <= after).all()
    assert (after < 0.98 * before).any()
    assert not once.requires_grad
    assert all(parameter.grad is None for parameter in tokenizer.parameters())


@pytest.mark.parametrize("name", ["one grid", "two levels"])
def test_an_image_is_refined_by_itself(name, monkeypatch):
    monkeypatch.setattr(refinement, "AT_ONCE", 3)
    tokenizer, images = made(name)
    first = tokenizer.encode(images)
    with torch.inference_mode():
        together = refined(tokenizer, images.clone(), first.clone())
    alone = [refined(tokenizer, images[i : i + 1], first[i : i + 1]) for i in range(len(images))]
    assert torch.equal(together, torch.cat(alone))


def test_every_grid_takes_part():
    for name, lengths in (("residual", (16, 16)), ("two levels", None)):
        tokenizer, images = made(name)
        assert lengths in (None, tokenizer.layout.lengths)
        first = tokenizer.encode(images)
        changed = tokenizer.layout.split(refined(tokenizer, images, first, 2) != first)
        assert all(part.any() for part in changed)


def test_without_sweeps_codes_stay_and_a_codebook_of_one_code_has_no_other():
    tokenizer, images = made("one grid")
    first = tokenizer.encode(images)
    assert refined(tokenizer, images, first, 0) is first
    single = VQVAE((16, 16), 3, vectors(size=1), 8, 8, 1).eval()
    assert torch.equal(refined(single, images, single.encode(images)), torch.zeros(5, 16, dtype=torch.int64))


def test_refuses_what_it_cannot_refine():
    tokenizer, images = made("one grid")
    with pytest.raises(ValueError, match="refine is a number of sweeps, 0 or more, got -1"):
        refined(tokenizer, images, tokenizer.encode(images), -1)

    class Own(Tokenizer):
        def encode(self, images):
            return torch.zeros(len(images), 1, dtype=torch.int64)

        def decode(self, codes, image_size=None):
            return torch.zeros(len(codes), 1, 4, 4)

    with pytest.raises(ValueError, match="codes of Own stand for no vectors: leave refine at 0"):
        refined(Own((4, 4), 1), images, torch.zeros(5, 1, dtype=torch.int64))
