import numpy as np
import pytest
import torch
from torch import nn

from pipelines.config.instantiate import build
from stage1_vqvae import VQGAN, CodeLayout
from stage1_vqvae.networks.vqgan import ResidualBlock, SelfAttention, VQGANEncoder, groups_of
from stage1_vqvae.quantizers import EMAVectorQuantizer
from tests.support.tiny import QUANTIZERS, compose, tiny

SMALL = {"width": 4, "multipliers": (1, 2, 2), "layers": 1}


def tokenizer(image_size=(12, 20), channels=3, **options):
    torch.manual_seed(0)
    return VQGAN(image_size, channels, EMAVectorQuantizer(4, 6, init="random"), **{**SMALL, **options})


def test_attention_is_every_place_to_every_place_in_numpy():
    torch.manual_seed(0)
    attention, x = SelfAttention(4).double(), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    found = attention(x).detach().numpy()
    weight, bias = (part.detach().numpy() for part in (attention.qkv.weight[:, :, 0, 0], attention.qkv.bias))
    out, shift = (part.detach().numpy() for part in (attention.output.weight[:, :, 0, 0], attention.output.bias))
    for image, expected in zip(x.numpy().reshape(2, 4, 6), found.reshape(2, 4, 6), strict=True):
        groups = image.reshape(attention.norm.num_groups, -1)
        spread = np.sqrt(groups.var(1, keepdims=True) + attention.norm.eps)
        normed = ((groups - groups.mean(1, keepdims=True)) / spread).reshape(4, 6)
        query, key, value = np.split(weight @ normed + bias[:, None], 3)
        logits = query.T @ key / np.sqrt(4)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(image + out @ (value @ shares.T) + shift[:, None], expected, atol=1e-10)


def test_a_new_block_passes_its_input_on():
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(ResidualBlock(8, 8)(x), x)
    wider = ResidualBlock(8, 12)
    assert torch.equal(wider(x), wider.shortcut(x))


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (6, 3), (12, 6), (64, 32), (96, 32), (128, 32), (40, 20)])
def test_groups_divide_channels_and_hold_two_at_least(channels, groups):
    assert groups_of(channels) == groups


def test_multipliers_set_widths_and_the_downsample_factor():
    encoder = VQGANEncoder(3, 5, 4, (1, 2, 3), 2, attention=False)
    strided = [layer for layer in encoder.blocks.blocks if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.stride) for layer in strided] == [(4, (2, 2)), (8, (2, 2))]
    assert sum(isinstance(layer, ResidualBlock) for layer in encoder.blocks.blocks) == 3 * 2 + 2
    assert encoder(torch.zeros(1, 3, 8, 16)).shape == (1, 5, 2, 4)
    assert tokenizer().layout == CodeLayout(((3, 5),), (6,))


def test_no_transposed_convolution_and_no_batch_statistics():
    kinds = {type(module) for module in tokenizer().modules()}
    assert not kinds & {nn.ConvTranspose2d, nn.BatchNorm2d}
    assert SelfAttention in kinds
    assert SelfAttention not in {type(module) for module in tokenizer(attention=False).modules()}


@pytest.mark.parametrize("padding", [0, 2])
def test_other_sizes_decode_and_codes_decode_to_the_reconstruction(padding):
    model = tokenizer(padding=padding).eval()
    images = torch.rand(2, 3, 12, 20) * 2 - 1
    with torch.no_grad():
        passed = model(images)
        assert torch.equal(model.decode(model.encode(images)), passed.images.clamp(-1, 1))
        length = model.layout_of((20, 28)).length
        assert model.decode(torch.zeros(1, length, dtype=torch.int64), (20, 28)).shape == (1, 3, 20, 28)


def test_activations_computed_again_change_no_number():
    gradients = []
    for recompute in (False, True):
        model = tokenizer(activation_checkpointing=recompute)
        for parameter in model.parameters():  # blocks whose last convolution is zero hide what is inside
            parameter.data.add_(0.1)
        forwards = []
        model.decoder.blocks.blocks[0].register_forward_pre_hook(lambda *_, seen=forwards: seen.append(1))
        passed = model(torch.linspace(-1, 1, 2 * 3 * 12 * 20).view(2, 3, 12, 20))
        (passed.images.square().mean() + passed.loss).backward()
        assert len(forwards) == 1 + recompute
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


@pytest.mark.parametrize("name", sorted({"ema", "gradient", *QUANTIZERS}))
def test_every_quantizer_fits_and_every_weight_learns(name):
    words = [word for word in tiny(name) if word.startswith(("stage1/quantizer", "stage1.quantizer"))]
    small = ["stage1.model.width=4", "stage1.model.multipliers=[1,1]", "stage1.model.layers=1"]
    torch.manual_seed(0)
    model = build(compose(*words, "stage1/network=vqgan", *small)["stage1"]["model"], "stage1.model")
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) / 10)
    passed = model(torch.rand(4, 1, 28, 28) * 2 - 1)
    (passed.images.square().mean() + passed.loss).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multipliers": (1,)}, r"multipliers are two numbers at least, each 1 or more, got \[1\]"),
        ({"multipliers": (1, 0)}, r"got \[1, 0\]"),
        ({"width": 3}, "width is even, so that channels can be normalized in groups, got 3"),
        ({"layers": (1, 0)}, r"layers is at least 1, got \(1, 0\)"),
        ({"image_size": (12, 22)}, "not divisible by downsample_factor 4: 12×24 would work"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(**options)


def test_channels_times_parameters_of_a_likelihood_come_out():
    words = ["stage1/network=vqgan", "stage1/likelihood=discretized_logistic", "stage1.model.width=4"]
    model = build(compose(*words)["stage1"]["model"], "stage1.model")
    assert model(torch.zeros(1, 1, 28, 28)).outputs.shape == (1, 2, 28, 28)
