import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.quantizers.gumbel import GumbelSoftmax
from stage1_vqvae.quantizers.lookup_free import LookupFree
from stage1_vqvae.quantizers.product import Product
from stage1_vqvae.quantizers.residual import Residual
from stage1_vqvae.quantizers.simvq import SimVQ
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer, VectorQuantizer
from stage1_vqvae.quantizers.wrappers import Projected


def built(inner=None, **options):
    torch.manual_seed(0)
    return Residual(inner or SimVQ(dim=3, codebook_size=7), **{"depth": 3, **options})


def codebook_of(quantizer):
    return quantizer.lookup(torch.arange(7)[None])[0].T.detach().double().numpy()  # [K, D]


def test_each_depth_is_nearest_to_what_is_left_over_in_numpy():
    quantizer, z = built(), torch.randn(2, 3, 5)
    found = quantizer(z)
    left = np.moveaxis(z.double().numpy(), 1, -1)
    total = np.zeros_like(left)
    for depth, inner in enumerate(quantizer.quantizers):
        codebook = codebook_of(inner)
        codes = ((left[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(found.codes[..., depth].numpy(), codes)
        left, total = left - codebook[codes], total + codebook[codes]
    np.testing.assert_allclose(found.vectors.detach().numpy(), np.moveaxis(total, -1, 1), atol=1e-6)


def test_deeper_codes_bring_the_vectors_nearer():
    quantizer = built(EMAVectorQuantizer(dim=3, codebook_size=16), depth=4)
    z = torch.randn(64, 3, 8)
    for _ in range(5):
        quantizer(z)
        quantizer.step()
    quantizer.eval()
    errors = []
    for depth in range(4):
        left = z
        for inner in quantizer.parts()[: depth + 1]:
            left = left - inner(left).vectors
        errors.append(left.square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < errors[0] / 4
    assert (quantizer(z).vectors - z).square().mean().item() == pytest.approx(errors[3], rel=1e-5)


@pytest.mark.parametrize("inner", [VectorQuantizer, EMAVectorQuantizer, SimVQ])
@pytest.mark.parametrize("dropout", [0.0, 0.8])
def test_the_sums_gradient_is_the_identity_under_straight_through(inner, dropout):
    quantizer = built(inner(dim=3, codebook_size=7), depth=4, dropout=dropout)
    z = torch.randn(8, 3, 5, requires_grad=True)
    weight = torch.randn(8, 3, 5)
    (quantizer(z).vectors * weight).sum().backward()
    assert torch.equal(z.grad, weight)


@pytest.mark.parametrize("inner", [VectorQuantizer, SimVQ])
def test_commitment_is_that_of_every_partial_sum(inner):
    quantizer = built(inner(dim=3, codebook_size=7, commitment_cost=0.4), commitment_cost=0.4)
    z = torch.randn(2, 3, 5, requires_grad=True)
    found = quantizer(z)
    (given,) = torch.autograd.grad(found.loss, z)
    expected, partial = torch.zeros_like(z), torch.zeros_like(z)
    for depth, one in enumerate(quantizer.parts()):
        partial = partial + one.lookup(found.codes[..., depth]).detach()
        expected = expected + 0.4 * 2 * (z.detach() - partial) / z.numel()
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("inner", [EMAVectorQuantizer, VectorQuantizer, SimVQ])
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_each_commitment_counts_once(inner, gradient):
    """Equation 6 of arXiv 2203.01941, in value and in its gradient to the encoder, whatever the estimator."""
    quantizer = built(inner(dim=3, codebook_size=7, commitment_cost=0.4, gradient=gradient), commitment_cost=0.4)
    z = torch.randn(2, 3, 5, requires_grad=True)
    found = quantizer(z)
    commitment = codebook_loss = 0.0
    gradients = np.zeros_like(z.detach().double().numpy())
    for partial in quantizer.lookup_partial_sums(found.codes):
        gap = (z - partial).detach().double().numpy()
        commitment += 0.4 * (gap**2).mean()
        codebook_loss += (gap**2).mean()  # of depth i the mean of |r_i - q_i|², and r_i - q_i is z less the partial sum
        gradients += 0.4 * 2 * gap / gap.size
    expected = commitment + (0 if inner is EMAVectorQuantizer else codebook_loss)
    assert found.loss.item() == pytest.approx(expected, rel=1e-4)
    (given,) = torch.autograd.grad(found.loss, z)
    np.testing.assert_allclose(given.numpy(), gradients, rtol=1e-3, atol=1e-6)


def test_quantizers_inside_of_others_count_their_commitment_once_too():
    inner = Product(Projected(EMAVectorQuantizer(dim=2, codebook_size=5), dim=2), groups=2)
    Residual(inner, depth=2)
    assert [part.commitment_cost for part in inner.modules() if isinstance(part, EMAVectorQuantizer)] == [0.25, 0.25]
    quantizer = Residual(inner, depth=3)
    costs = [
        [m.commitment_cost for m in part.modules() if isinstance(m, EMAVectorQuantizer)] for part in quantizer.parts()
    ]
    assert costs == [[0.25, 0.25], [0.0, 0.0], [0.0, 0.0]]


def test_other_gradients_follow_the_chain_of_residuals():
    # FSQ of one odd channel: the slope of tanh(z) * reach / half.
    quantizer = Residual(FSQ([5]), depth=2, commitment_cost=0.0, scale=0.25)
    z = torch.tensor([[[0.3, -0.7, 1.4]]], requires_grad=True)
    found = quantizer(z)
    found.vectors.sum().backward()

    def slope(x):
        return (1 - np.tanh(x) ** 2) * 4 * 1.001 / 2 / 2

    start = z.detach().numpy()
    first = np.round(np.tanh(start) * 2.002) / 2
    outer, inner = slope(start), slope((start - first) / 0.25)
    np.testing.assert_allclose(z.grad.numpy(), outer + inner * (1 - outer), rtol=1e-4)


@pytest.mark.parametrize("inner", [FSQ([5, 5, 5]), LookupFree(dim=3)])
def test_scale_refines_a_fixed_grid(inner):
    torch.manual_seed(0)
    z = torch.rand(4, inner.dim, 50) - 0.5
    coarse, fine = (Residual(inner, depth=depth, scale=0.5).eval()(z).vectors for depth in (1, 5))
    assert (fine - z).abs().mean() < (coarse - z).abs().mean() / 3


def test_dropout_keeps_a_prefix_of_the_depths_of_each_sample():
    quantizer = built(depth=3, dropout=0.5)
    z = torch.randn(600, 3, 2)
    found = quantizer(z)
    sums, total = [], 0
    for depth, inner in enumerate(quantizer.parts()):
        total = total + inner.lookup(found.codes[..., depth])
        sums.append(total)
    same = torch.stack([(found.vectors == prefix).flatten(1).all(1) for prefix in sums])  # [depth, B]
    assert torch.equal(same.sum(0), torch.ones(600, dtype=torch.int64))
    shares = same.float().mean(1)
    torch.testing.assert_close(shares, torch.tensor([1 / 6, 1 / 6, 4 / 6]), atol=0.06, rtol=0)
    quantizer.eval()
    assert torch.equal(quantizer(z).vectors, sums[-1])


def test_other_families_work_inside():
    torch.manual_seed(0)
    for inner in (GumbelSoftmax(dim=3, codebook_size=7), FSQ([3, 3, 3]), LookupFree(dim=3)):
        quantizer = Residual(inner, depth=3, scale=0.5).eval()
        found = quantizer(torch.randn(2, 3, 4))
        assert torch.equal(quantizer.lookup(found.codes), found.vectors)


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"scale": 0.0}, {"dropout": 1.5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Residual(FSQ([3]), **wrong)
