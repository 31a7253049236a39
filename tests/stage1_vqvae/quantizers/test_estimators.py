import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers.estimators import ESTIMATORS, rotation, straight_through

every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def rotation_matrix(a, b):
    """The rotation in the plane of a and b that turns a's direction to b's, the rest of space at rest."""
    u = a / np.linalg.norm(a)
    v = b / np.linalg.norm(b) - (b @ u) / np.linalg.norm(b) * u
    sine = np.linalg.norm(v)
    cosine = b @ u / np.linalg.norm(b)
    v = v / sine
    turn = np.array([[cosine, -sine], [sine, cosine]])
    plane = np.stack([u, v], 1)  # [D, 2]
    return np.eye(len(a)) - plane @ plane.T + plane @ turn @ plane.T


@every
@settings(max_examples=20)
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e8]))
def test_value_is_the_lookup_to_the_bit(estimator, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    z, quantized = torch.randn(2, 2, 5, 3, generator=generator)
    assert torch.equal(estimator(scale * z, quantized), quantized)


def test_straight_through_passes_the_gradient_as_it_is():
    z = torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4)
    (straight_through(z, torch.randn(2, 3, 4)) * weight).sum().backward()
    assert torch.equal(z.grad, weight)


@settings(max_examples=30)
@given(seed=st.integers(0, 999), dim=st.integers(2, 6))
def test_rotation_passes_the_gradient_through_the_rotation_in_numpy(seed, dim):
    generator = torch.Generator().manual_seed(seed)
    z, quantized, weight = torch.randn(3, 1, dim, 1, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    (rotation(z, quantized) * weight).sum().backward()
    a, b = z.detach().numpy().ravel(), quantized.numpy().ravel()
    matrix = np.linalg.norm(b) / np.linalg.norm(a) * rotation_matrix(a, b)
    np.testing.assert_allclose(matrix @ a, b, atol=1e-10)  # of the reference: it takes z to the code
    np.testing.assert_allclose(z.grad.numpy().ravel(), matrix.T @ weight.numpy().ravel(), rtol=1e-6, atol=1e-8)


def test_rotation_keeps_the_gradients_angle_to_the_vector():
    z, quantized, weight = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    z.requires_grad_()
    (rotation(z, quantized) * weight).sum().backward()
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(z.grad, z.detach(), dim=1), cosine(weight, quantized, dim=1))


@pytest.mark.parametrize(
    ("z", "quantized"),
    [((0.0, 0.0), (1.0, 2.0)), ((1.0, 2.0), (0.0, 0.0)), ((1.0, 2.0), (-1.0, -2.0)), ((1.0, 2.0), (1.0, 2.0))],
    ids=["no direction", "code at the origin", "opposite", "equal"],
)
def test_rotation_has_finite_gradients_where_there_is_no_plane(z, quantized):
    z, quantized = torch.tensor(z).view(1, 2, 1).requires_grad_(), torch.tensor(quantized).view(1, 2, 1)
    passed = rotation(z, quantized)
    passed.sum().backward()
    assert torch.equal(passed.detach(), quantized)
    assert z.grad.abs().max() < 10


def test_rotation_of_equal_vectors_is_the_identity():
    z = torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4)
    (rotation(z, z.detach()) * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)


@every
def test_the_codebook_gets_no_gradient(estimator):
    quantized = torch.randn(1, 3, 2, requires_grad=True)
    z = torch.randn(1, 3, 2, requires_grad=True)
    estimator(z, quantized).sum().backward()
    assert quantized.grad is None
