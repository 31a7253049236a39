import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stage1_vqvae.quantizers import IBQ


def built(**options):
    torch.manual_seed(0)
    return IBQ(dim=3, codebook_size=6, **options)


def test_codes_have_the_largest_product_in_numpy():
    quantizer, z = built(), torch.randn(2, 3, 4, 4)
    products = np.moveaxis(z.double().numpy(), 1, -1) @ quantizer.codebook.detach().double().numpy().T
    found = quantizer(z)
    np.testing.assert_array_equal(found.codes.numpy(), products.argmax(-1))
    assert torch.equal(found.vectors, quantizer.lookup(found.codes))


def test_gradients_are_those_of_the_one_hot_index_written_out():
    """Equations 3 and 4 of arXiv 2412.02692 and the authors' losses, with the N × K matrices."""
    quantizer = built(commitment_cost=0.9, codebook_cost=0.3, entropy=0.5, diversity=1.5, temperature=0.2)
    z = torch.randn(2, 3, 5, requires_grad=True)
    weight = torch.randn(10, 3)
    found = quantizer(z)
    vectors = found.vectors.movedim(1, -1).reshape(10, 3)
    given = torch.autograd.grad((vectors * weight).sum() + found.loss, [z, quantizer.codebook])

    rows, codebook = z.movedim(1, -1).reshape(10, 3), quantizer.codebook
    logits = rows @ codebook.T
    soft = logits.softmax(1)
    hard = F.one_hot(soft.argmax(1), 6).float()
    passed = (hard - soft.detach() + soft) @ codebook
    chosen = hard @ codebook
    shares = (logits / 0.2).softmax(1)
    entropies = torch.special.entr(shares).sum(1).mean() - 1.5 * torch.special.entr(shares.mean(0)).sum()
    loss = (passed - rows).square().mean() + 0.9 * (chosen.detach() - rows).square().mean()
    loss = loss + 0.3 * (chosen - rows.detach()).square().mean() + 0.5 * entropies
    torch.testing.assert_close(found.loss, loss)
    expected = torch.autograd.grad((passed * weight).sum() + loss, [z, codebook])
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_every_code_gets_a_gradient_from_one_vector():
    quantizer = built(entropy=0.0)
    quantizer(torch.randn(1, 3)).vectors.sum().backward()
    assert (quantizer.codebook.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("wrong", [{"codebook_size": 0}, {"dim": 0}, {"temperature": 0.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IBQ(**wrong)
