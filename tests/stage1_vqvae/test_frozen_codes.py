"""What a decoder's training leaves as it was, for each kind of tokenizer."""

import pytest
import torch
from torch import nn

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.frozen_codes import FrozenCodes
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.likelihoods import DiscretizedLogistic
from stage1_vqvae.one_level import OneLevelTokenizer
from stage1_vqvae.own_module import ModuleTokenizer
from stage1_vqvae.vqvae import VQVAE
from stage1_vqvae.vqvae2 import VQVAE2
from tests.support.families import built, trained

SHAPE = {"width": 8, "residual_width": 4, "residual_layers": 1}
DECODER = ("decoder.", "upsamplings.")


def tokenizer_of(family):
    """A tokenizer with quantizers that have been trained a little."""
    torch.manual_seed(0)
    if family == "two levels":
        quantizers = [trained("ema"), trained("gradient")]
        return VQVAE2((16, 16), 1, quantizers, **SHAPE, downsample_factors=(2, 4), level_dropout=0.5).eval()
    likelihood = DiscretizedLogistic() if family == "simvq" else None
    return VQVAE((16, 16), 1, trained(family), **SHAPE, downsample_factor=4, likelihood=likelihood).eval()


def train(model, images, steps=3):
    """Steps of gradient descent, each with the codebooks' own; returns the codes that the last one decoded."""
    module = TokenizerTraining(model)
    for _ in range(steps):
        passed = model(images)
        terms = module._terms(passed, images)
        (module.objective.total(terms) + passed.loss).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        model.step()
    return passed.codes


FAMILIES = ["ema", "gradient", "simvq", "gumbel", "fsq", "residual ema", "product of residuals", "two levels"]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_but_the_decoder_is_the_same_to_the_bit(family):
    tokenizer = tokenizer_of(family)
    images = torch.rand(16, 1, 16, 16) * 2 - 1
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    codes = tokenizer.encode(images)
    model = FrozenCodes(tokenizer, noise=0.3, neighbours=3)
    noisy = train(model, images)
    assert 0.1 < (noisy != codes).float().mean() < 0.5
    moved = {name for name, value in tokenizer.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(DECODER) for name in moved), moved
    assert {name.split(".")[0] for name in moved} == {name.split(".")[0] for name in before if name.startswith(DECODER)}
    assert torch.equal(tokenizer.encode(images), codes)
    model.eval()
    with torch.no_grad():
        passed = model(images)
    assert torch.equal(passed.codes, codes), "validation is without noise"
    assert torch.equal(passed.images.clamp(-1, 1), tokenizer.decode(codes))
    assert model.training is False
    model.train()
    inside = {name.split(".")[0] for name, module in tokenizer.named_modules() if module.training}
    assert inside == {name.rstrip(".") for name in DECODER if any(key.startswith(name) for key in before)}


def test_in_training_the_decoder_sees_the_noisy_codes():
    tokenizer = tokenizer_of("ema")
    model, images = FrozenCodes(tokenizer, noise=0.5), torch.rand(4, 1, 16, 16)
    passed = model(images)
    assert not torch.equal(passed.codes, tokenizer.encode(images))
    assert torch.equal(passed.images.clamp(-1, 1), tokenizer.decode(passed.codes))
    assert float(passed.loss) == 0
    plain = FrozenCodes(tokenizer)(images)
    assert torch.equal(plain.codes, tokenizer.encode(images))
    assert torch.equal(plain.images.clamp(-1, 1), tokenizer.decode(plain.codes))


class Tied(OneLevelTokenizer):
    """Decodes with a weight that it encodes with."""

    def __init__(self):
        layer = nn.Conv2d(4, 4, 1)
        encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 4), layer)
        decoder = nn.Sequential(layer, nn.ConvTranspose2d(4, 1, 4, 4))
        super().__init__((16, 16), 1, encoder, built("ema"), decoder, 4)


class Nameless(OneLevelTokenizer):
    """Does not say what decodes."""

    decoding = ()

    def __init__(self):
        super().__init__((16, 16), 1, nn.Conv2d(1, 4, 4, 4), built("ema"), nn.ConvTranspose2d(4, 1, 4, 4), 4)


class Elsewhere(nn.Module):
    """A tokenizer of another project."""

    layout = CodeLayout(((4, 4),), (9,))

    def encode(self, images):
        return torch.zeros(len(images), 16, dtype=torch.int64)

    def decode(self, codes):
        return torch.zeros(len(codes), 1, 16, 16)


def test_what_has_no_decoder_that_could_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"encoder\.1\.weight is a weight of the decoder too"):
        FrozenCodes(Tied())
    with pytest.raises(ValueError, match="Nameless has no decoding: name the modules"):
        FrozenCodes(Nameless())
    with pytest.raises(ValueError, match="ModuleTokenizer has no decoder that can be trained by itself"):
        FrozenCodes(ModuleTokenizer((16, 16), 1, Elsewhere()))
