import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.lookup_free import BinarySpherical, LookupFree

both = pytest.mark.parametrize("family", [LookupFree, BinarySpherical])


def corners(bits, radius):
    return radius * np.array([[2 * (code >> bit & 1) - 1 for bit in range(bits)] for code in range(2**bits)])


@both
def test_every_index_comes_back(family):
    quantizer = family(dim=10).eval()
    every = torch.arange(1024)[None]
    vectors = quantizer.lookup(every)
    radius = 1 if family is LookupFree else 10**-0.5
    np.testing.assert_array_equal(vectors[0].T.numpy(), corners(10, radius).astype(np.float32))
    again = quantizer(vectors)
    assert torch.equal(again.codes, every)
    assert torch.equal(again.vectors, vectors)


@both
def test_codes_are_the_nearest_corner_and_zero_is_the_lowest(family):
    torch.manual_seed(0)
    z = torch.randn(3, 5, 4, 4)
    quantizer = family(dim=5)
    flat = z.movedim(1, -1).double().numpy()
    if family is BinarySpherical:
        flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    all_corners = corners(5, quantizer.radius)
    expected = ((flat[..., None, :] - all_corners) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(quantizer(z).codes.numpy(), expected)
    assert quantizer(torch.zeros(1, 5, 1)).codes.item() == 0


@both
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_loss_is_commitment_and_entropies_of_the_whole_softmax(family, temperature):
    torch.manual_seed(0)
    quantizer = family(dim=4, commitment_cost=0.3, entropy=0.7, diversity=1.5, temperature=temperature)
    z = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    loss = quantizer(z).loss
    (given,) = torch.autograd.grad(loss, z)

    placed = z / z.norm(dim=1, keepdim=True) if family is BinarySpherical else z
    flat = placed.movedim(1, -1).reshape(-1, 4)
    codes = torch.from_numpy(corners(4, quantizer.radius))
    distances = (flat[:, None] - codes).square().sum(2)
    shares = (-distances / temperature).softmax(1)
    entropies = torch.special.entr(shares).sum(1).mean() - 1.5 * torch.special.entr(shares.mean(0)).sum()
    expected = 0.3 * distances.amin(1).mean() / 4 + 0.7 * entropies
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    np.testing.assert_allclose(given, torch.autograd.grad(expected, z)[0], rtol=1e-3, atol=1e-6)


def test_lookup_free_gradients_pass_straight_through():
    z = torch.randn(2, 4, 3, requires_grad=True)
    weight = torch.randn(2, 4, 3)
    (LookupFree(dim=4)(z).vectors * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_spherical_vectors_have_length_one_and_gradients_lie_in_the_sphere():
    torch.manual_seed(0)
    quantizer = BinarySpherical(dim=6)
    z = torch.randn(2, 6, 3, requires_grad=True)
    quantized = quantizer(z)
    torch.testing.assert_close(quantized.vectors.norm(dim=1), torch.ones(2, 3))
    assert torch.equal(quantizer(5 * z).codes, quantized.codes)
    (quantized.vectors * torch.randn(2, 6, 3)).sum().backward()
    torch.testing.assert_close((z.grad * z.detach()).sum(1), torch.zeros(2, 3), atol=1e-6, rtol=0)


def test_loss_without_entropies_does_not_depend_on_the_batch():
    # The batch's entropy is a property of the batch; the other terms are means over samples.
    quantizer = LookupFree(dim=4, diversity=0.0)
    z = torch.randn(6, 4, 5)
    apart = torch.stack([quantizer(row[None]).loss for row in z]).mean()
    torch.testing.assert_close(quantizer(z).loss, apart)


@both
def test_wrong_settings_are_refused(family):
    with pytest.raises(ValueError, match="1 to 24, got 0"):
        family(dim=0)
    with pytest.raises(ValueError, match="temperature"):
        family(temperature=0.0)
