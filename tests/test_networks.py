import pytest
import torch

from stage1_vqvae.networks import Decoder, Encoder


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 4])
def test_shapes_mirror(factor, channels):
    shape = {"channels": channels, "dim": 5, "hidden": 8, "residual_hidden": 4, "residual_layers": 2, "factor": factor}
    images = torch.zeros(2, channels, 2 * factor, 3 * factor)
    latents = Encoder(**shape)(images)
    assert latents.shape == (2, 5, 2, 3)
    assert Decoder(**shape)(latents).shape == images.shape


@pytest.mark.parametrize("factor", [0, 1, 3, 12])
def test_factor_is_a_power_of_two(factor):
    with pytest.raises(ValueError, match=f"power of two of at least 2, got {factor}"):
        Encoder(1, 4, 8, 4, 1, factor)


def test_every_weight_is_trained():
    encoder = Encoder(1, 4, 8, 4, 2, 4)
    decoder = Decoder(1, 4, 8, 4, 2, 4)
    decoder(encoder(torch.randn(2, 1, 8, 8))).square().mean().backward()
    for module in (encoder, decoder):
        assert all(parameter.grad is not None for parameter in module.parameters())
