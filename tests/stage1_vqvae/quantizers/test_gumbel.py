import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stage1_vqvae.quantizers.gumbel import GumbelSoftmax


def built(**options):
    torch.manual_seed(0)
    return GumbelSoftmax(dim=3, codebook_size=6, **options)


def logits_of(quantizer, z):
    weight, bias = (value.detach().double().numpy() for value in (quantizer.logits.weight, quantizer.logits.bias))
    return np.moveaxis(z.double().numpy(), 1, -1) @ weight.T + bias


def test_takes_the_likeliest_code_in_evaluation():
    quantizer, z = built().eval(), torch.randn(2, 3, 4, 4)
    quantized = quantizer(z)
    np.testing.assert_array_equal(quantized.codes.numpy(), logits_of(quantizer, z).argmax(-1))
    assert torch.equal(quantized.vectors, quantizer.codebook[quantized.codes].movedim(-1, 1))
    once, again = (torch.autograd.grad(quantizer(z).vectors.sum(), quantizer.logits.weight)[0] for _ in range(2))
    assert torch.equal(once, again)  # nothing is drawn


def test_draws_from_the_logits_distribution_in_training():
    quantizer = built(temperature=0.5)
    z = torch.randn(1, 3, 1)
    codes = quantizer(z.expand(1, 3, 20000)).codes.flatten().numpy()
    logits = logits_of(quantizer, z)[0, 0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(np.bincount(codes, minlength=6) / 20000, expected, atol=0.015)


def test_value_is_one_code_and_gradient_the_mixtures():
    quantizer = built(temperature=0.8, kl=0.0)
    z = torch.randn(2, 3, 5, requires_grad=True)
    weight = torch.randn(2, 3, 5)
    torch.manual_seed(7)
    quantized = quantizer(z)
    assert torch.equal(quantized.vectors, quantizer.lookup(quantized.codes))
    given = torch.autograd.grad((quantized.vectors * weight).sum(), [z, *quantizer.parameters()])
    # The textbook form, with its one-hot matrix.
    torch.manual_seed(7)
    one_hot = F.gumbel_softmax(quantizer.logits(z.movedim(1, -1).reshape(-1, 3)), tau=0.8, hard=True)
    drawn = (one_hot @ quantizer.codebook).view(2, 5, 3).movedim(-1, 1)
    expected = torch.autograd.grad((drawn * weight).sum(), [z, *quantizer.parameters()])
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_loss_is_the_divergence_from_the_uniform_prior():
    quantizer, z = built(kl=0.5), torch.randn(2, 3, 4)
    logits = logits_of(quantizer, z)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = 0.5 * (shares * np.log(shares * 6)).sum(-1).mean()
    assert quantizer(z).loss.item() == pytest.approx(expected, rel=1e-4)
    apart = torch.stack([quantizer(row[None]).loss for row in z]).mean()
    torch.testing.assert_close(quantizer(z).loss, apart)


def test_temperature_falls_along_a_half_cosine_and_is_state():
    quantizer = built(temperature=2.0, final_temperature=0.5, anneal_steps=4)
    found = []
    for _ in range(6):
        found.append(quantizer.temperature())
        quantizer.step()
    half_way = 1.5 * np.array([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0, 0]) + 0.5
    np.testing.assert_allclose(found, half_way)
    again = built(temperature=2.0, final_temperature=0.5, anneal_steps=4)
    again.load_state_dict(quantizer.state_dict())
    assert again.temperature() == 0.5
    assert again.steps.dtype == torch.int64
    assert built(temperature=2.0, final_temperature=0.5, anneal_steps=1).temperature() == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"codebook_size": 0}, "codebook_size"),
        ({"temperature": 0.0}, "temperatures"),
        ({"anneal_steps": 0}, "anneal_steps"),
    ],
)
def test_wrong_settings_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        GumbelSoftmax(**wrong)
