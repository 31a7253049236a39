import pytest
import torch

from stage1_vqvae.networks.convolutional import Decoder, Encoder, ResidualStack


@pytest.mark.parametrize("downsample_factor", [2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_shapes_mirror(downsample_factor, channels, norm):
    shape = {
        "channels": channels,
        "dim": 5,
        "width": 8,
        "residual_width": 4,
        "residual_layers": 2,
        "downsample_factor": downsample_factor,
    }
    shape["norm"] = norm
    images = torch.zeros(2, channels, 2 * downsample_factor, 3 * downsample_factor)
    latents = Encoder(**shape)(images)
    assert latents.shape == (2, 5, 2, 3)
    assert Decoder(**shape)(latents).shape == images.shape


@pytest.mark.parametrize("downsample_factor", [0, 1, 3, 12])
def test_factor_is_a_power_of_two(downsample_factor):
    with pytest.raises(ValueError, match=f"power of two of at least 2, got {downsample_factor}"):
        Encoder(1, 4, 8, 4, 1, downsample_factor)


@pytest.mark.parametrize("norm", ["none", "group"])
def test_every_weight_is_trained(norm):
    torch.manual_seed(0)
    encoder = Encoder(1, 4, 8, 4, 2, 4, norm)
    decoder = Decoder(1, 4, 8, 4, 2, 4, norm)
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.1)
    images = torch.randn(2, 1, 8, 8)
    for _ in range(2):  # normalized blocks end in zeros at first: what is before these learns from the second step on
        optimizer.zero_grad()
        (decoder(encoder(images)) - images).square().mean().backward()
        optimizer.step()
    for module in (encoder, decoder):
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters() if parameter.ndim > 1)


def test_normalized_blocks_start_as_the_identity():
    x = torch.randn(2, 32, 4, 4)
    stack = ResidualStack(32, 16, 3, "group")
    normalized = x.view(2, 2, 16, 4, 4)  # groups of 16 channels
    normalized = normalized - normalized.mean((2, 3, 4), keepdim=True)
    normalized = (normalized / (normalized.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()).view_as(x)
    torch.testing.assert_close(stack(x), normalized * normalized.sigmoid())


@pytest.mark.parametrize("channels", [3, 16, 24, 40, 56, 128])
def test_every_width_has_groups(channels):
    assert ResidualStack(channels, 24, 1, "group")(torch.randn(1, channels, 4, 4)).shape == (1, channels, 4, 4)


def test_without_a_norm_the_stack_is_the_papers():
    x = torch.randn(2, 6, 5, 5)
    stack = ResidualStack(6, 4, 2)
    expected = x
    for _, first, _, second in stack.blocks:
        expected = expected + second(first(expected.relu()).relu())
    assert torch.equal(stack(x), expected.relu())
    assert list(stack.state_dict()) == [
        f"blocks.{block}.{layer}.{name}" for block in (0, 1) for layer in (1, 3) for name in ("weight", "bias")
    ]


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm is none or group, got 'batch'"):
        ResidualStack(8, 4, 1, "batch")
