import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers import DiVeQ


def built(codebook, **options):
    return DiVeQ(codebook.shape[1], len(codebook), init=codebook, **options)


def test_the_vector_has_the_errors_length_in_a_direction_near_it():
    torch.manual_seed(0)
    codebook, z = torch.randn(6, 3), torch.randn(400, 3)
    for variance in (1e-6, 1e-2):
        quantizer = built(codebook, noise_variance=variance)
        vectors, codes, _ = quantizer(z)
        error, passed = codebook[codes] - z, (vectors - z).detach()
        torch.testing.assert_close(passed.norm(dim=1), error.norm(dim=1))
        # Of small noise, across the error with variance σ² a channel: a mean square of 2 σ² for three channels.
        across = (passed - error).square().sum(1).sqrt()
        far = error.norm(dim=1) > 0.5
        assert across[far].square().mean().item() == pytest.approx(2 * variance, rel=0.3)


def test_gradients_are_those_of_the_errors_length():
    torch.manual_seed(0)
    codebook, weight = torch.randn(6, 3), torch.randn(8, 3)
    quantizer = built(codebook, noise_variance=0.0)
    z = torch.randn(8, 3, requires_grad=True)
    vectors, codes, loss = quantizer(z)
    assert loss.item() == quantizer.commitment_cost == 0
    (vectors * weight).sum().backward()
    # z + |e - z| u with u = (e - z) / |e - z| constant: the gradient to e is u (u·g), to z it is g less that.
    error = (codebook[codes] - z.detach()).double().numpy()
    u = error / np.linalg.norm(error, axis=1, keepdims=True)
    along = u * (u * weight.double().numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), weight.numpy() - along, rtol=1e-4, atol=1e-6)
    expected = np.zeros((6, 3))
    np.add.at(expected, codes.numpy(), along)
    np.testing.assert_allclose(quantizer.codebook.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_vector_on_its_code_has_finite_gradients():
    codebook = torch.eye(3)
    assert built(codebook)(torch.zeros(2, 3)).loss == 0
    for variance in (0.0, 1e-3):
        z = codebook.clone().requires_grad_()
        quantizer = built(codebook, noise_variance=variance)
        vectors, _, loss = quantizer(z)
        (vectors.sum() + loss).backward()
        assert z.grad.isfinite().all()
        assert quantizer.codebook.grad.isfinite().all()


def test_training_moves_the_codebook_to_the_data_without_a_loss_of_its_own():
    torch.manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    z = centres.repeat(20, 1) + 0.05 * torch.randn(60, 2)
    quantizer = built(centres + 0.7)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (quantizer(z).vectors - z).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(quantizer.codebook.detach(), centres, atol=0.15, rtol=0)


def test_evaluation_is_the_code_itself():
    codebook = torch.randn(6, 3)
    vectors, codes, _ = built(codebook).eval()(torch.randn(9, 3))
    assert torch.equal(vectors, codebook[codes])


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="noise_variance is at least 0, got -1"):
        DiVeQ(noise_variance=-1.0)
