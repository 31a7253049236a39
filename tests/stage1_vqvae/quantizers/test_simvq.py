import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.estimators import rotation
from stage1_vqvae.quantizers.simvq import SimVQ


def effective(quantizer):
    """C W + b in float64."""
    weight, bias = (value.detach().double().numpy() for value in (quantizer.map.weight, quantizer.map.bias))
    return quantizer.frozen.double().numpy() @ weight.T + bias


def test_codes_are_the_nearest_of_the_mapped_codebook_in_numpy():
    torch.manual_seed(0)
    quantizer = SimVQ(dim=3, codebook_size=11)
    z = torch.randn(2, 3, 4, 4)
    quantized = quantizer(z)
    codebook = effective(quantizer)
    flat = np.moveaxis(z.double().numpy(), 1, -1)
    expected = ((flat[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(quantized.codes.numpy(), expected)
    vectors = np.moveaxis(codebook[expected], -1, 1)
    np.testing.assert_allclose(quantized.vectors.detach().numpy(), vectors, atol=1e-6)
    assert quantized.loss.item() == pytest.approx(1.25 * ((z.numpy() - vectors) ** 2).mean(), rel=1e-5)


def test_beta_weighs_the_encoders_side_alone():
    torch.manual_seed(0)
    quantizer = SimVQ(dim=3, codebook_size=5, commitment_cost=0.7)
    z = torch.randn(2, 3, 4, requires_grad=True)
    quantized = quantizer(z)
    quantized.loss.backward()
    nearby = quantized.vectors.detach()
    torch.testing.assert_close(z.grad, 0.7 * 2 * (z.detach() - nearby) / z.numel())
    pulls = (2 * (nearby - z.detach()) / z.numel()).movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(quantizer.map.weight.grad, pulls.T @ quantizer.frozen[quantized.codes.flatten()])


def test_one_code_in_use_moves_all_and_the_frozen_part_stays():
    torch.manual_seed(0)
    quantizer = SimVQ(dim=3, codebook_size=9)
    quantizer._set_started(True)
    frozen, before = quantizer.frozen.clone(), effective(quantizer)
    quantizer(torch.full((1, 3, 1), 2.0)).loss.backward()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter -= 0.1 * parameter.grad
    assert (np.abs(effective(quantizer) - before).sum(1) > 1e-4).all()
    assert torch.equal(quantizer.frozen, frozen)
    assert {name for name, _ in quantizer.named_parameters()} == {"map.weight", "map.bias"}


def test_lookup_of_any_number_of_codes_gives_the_same_bits():
    torch.manual_seed(0)
    quantizer = SimVQ(dim=48, codebook_size=67).eval()
    codes = torch.arange(67)[None]
    together = quantizer.lookup(codes)
    for code in range(67):
        assert torch.equal(quantizer.lookup(codes[:, code : code + 1]), together[..., code : code + 1])


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_gradients_pass_by_the_estimator_asked_for(gradient):
    torch.manual_seed(0)
    quantizer = SimVQ(dim=3, codebook_size=5, gradient=gradient)
    z = torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4)
    quantized = quantizer(z)
    (given,) = torch.autograd.grad((quantized.vectors * weight).sum(), z)
    expected = weight
    if gradient == "rotation":
        (expected,) = torch.autograd.grad((rotation(z, quantized.vectors.detach()) * weight).sum(), z)
    assert torch.equal(given, expected)


def test_starts_with_the_moments_of_the_first_batch():
    torch.manual_seed(0)
    quantizer = SimVQ(dim=4, codebook_size=4000)
    z = (torch.randn(500, 4) @ torch.randn(4, 4) + 7).T[None]
    quantizer.eval()(z)
    assert not quantizer.started
    quantizer.train()(z)
    codebook = effective(quantizer)
    flat = z[0].T.double().numpy()
    np.testing.assert_allclose(codebook.mean(0), flat.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(codebook.T), np.cov(flat.T), atol=0.1 * np.cov(flat.T).max())
    before = effective(quantizer)
    quantizer(z + 1)  # only the first batch counts
    np.testing.assert_array_equal(effective(quantizer), before)


def test_a_first_batch_of_equal_vectors_leaves_the_codes_apart():
    quantizer = SimVQ(dim=3, codebook_size=9)
    quantizer(torch.zeros(2, 3, 5))
    assert len(quantizer.codewords().unique(dim=0)) == 9


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="codebook_size"):
        SimVQ(codebook_size=0)
    with pytest.raises(ValueError, match="gradient is straight_through or rotation"):
        SimVQ(gradient="other")
