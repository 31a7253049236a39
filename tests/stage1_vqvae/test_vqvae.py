import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.networks.convolutional import ResidualStack
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE


def tiny(image_size=(8, 12), channels=1, **options):
    quantizer = EMAVectorQuantizer(dim=4, codebook_size=6)
    return VQVAE(image_size, channels, quantizer, width=8, residual_width=4, **{"residual_layers": 1, **options})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_codes_and_images_have_the_contracts_shapes(channels):
    model = tiny(channels=channels).eval()
    images = torch.rand(3, channels, 8, 12) * 2 - 1
    codes = model.encode(images)
    assert model.layout == CodeLayout(((2, 3),), (6,))
    assert codes.shape == (3, 6)
    assert codes.dtype == torch.int64
    decoded = model.decode(codes)
    assert decoded.shape == images.shape
    assert decoded.is_contiguous()
    assert decoded.abs().max() <= 1


def test_forward_is_encode_then_decode_in_eval():
    model = tiny().eval()
    images = torch.rand(3, 1, 8, 12) * 2 - 1
    passed = model(images)
    assert torch.equal(passed.codes, model.encode(images))
    assert torch.equal(passed.images.clamp(-1, 1), model.decode(passed.codes))


@pytest.mark.parametrize("norm", ["none", "group"])
def test_codes_do_not_depend_on_the_batch(norm):
    model = tiny(norm=norm).eval()
    images = torch.rand(5, 1, 8, 12) * 2 - 1
    apart = torch.cat([model.encode(image[None]) for image in images])
    assert torch.equal(model.encode(images), apart)


def test_impossible_sizes_are_refused_with_what_would_work():
    with pytest.raises(ValueError, match=r"30×28 is not divisible by downsample_factor 8: 32×32 would work"):
        tiny((30, 28), downsample_factor=8)
    with pytest.raises(ValueError, match="1 to 4 channels, got 5"):
        tiny(channels=5)
    with pytest.raises(ValueError, match=r"\[B, 1, 8, 12\] expected, got \[1, 1, 8, 8\]"):
        tiny()(torch.zeros(1, 1, 8, 8))


def test_padding_gives_sizes_that_downsample_factor_does_not_divide_a_grid():
    model = tiny((12, 28), downsample_factor=8, padding=2).eval()
    assert model.layout.grids == ((2, 4),)
    images = torch.rand(2, 1, 12, 28) * 2 - 1
    assert model.decode(model.encode(images)).shape == images.shape
    assert model(images).images.shape == images.shape
    with pytest.raises(ValueError, match=r"12×28 \+ 2 × padding 1 is not divisible by downsample_factor 8: 14×30"):
        tiny((12, 28), downsample_factor=8, padding=1)


def test_gradient_reaches_the_encoder_through_the_codes():
    torch.manual_seed(0)  # so narrow a network may start with dead units
    model = tiny()
    images = torch.rand(3, 1, 8, 12) * 2 - 1
    model(images).images.square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters() if parameter.ndim > 1)


def test_a_normalized_model_is_pure_in_eval_and_exports():
    model = tiny(norm="group")
    images = torch.rand(3, 1, 8, 12) * 2 - 1
    model(images).images.square().mean().backward()
    model.quantizer.step()
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passed = model(images)
    assert torch.equal(passed.codes, model.encode(images))
    assert torch.equal(passed.images.clamp(-1, 1), model.decode(passed.codes))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for method, argument in ((model.encode, images), (model.decode, passed.codes)):
        torch.testing.assert_close(exported(method, model)(argument), method(argument))


def test_the_decoder_may_be_deeper_than_the_encoder():
    model = tiny(residual_layers=(1, 3))
    stacks = [module for module in model.modules() if isinstance(module, ResidualStack)]
    assert [len(stack.blocks) for stack in stacks] == [1, 3]


def exported(method, model):
    class Method(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, argument):
            return method(argument)

    example = torch.zeros(2, 1, 8, 12) if method == model.encode else torch.zeros(2, model.layout.length, dtype=int)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    return torch.export.export(Method().eval(), (example,), dynamic_shapes=dynamic).module()
