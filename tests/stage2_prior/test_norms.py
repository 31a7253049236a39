import warnings

import numpy as np
import pytest
import torch

from stage2_prior.norms import EPSILON, ChannelNorm, Norm, normalised


def reference(x, axis):
    return x / np.sqrt((x**2).mean(axis, keepdims=True) + np.finfo(np.float32).eps)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normalised_is_over_the_root_mean_square(scale):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 8) * scale
    found = normalised(x, torch.tensor([EPSILON]))
    np.testing.assert_allclose(found, reference(x.numpy(), -1), rtol=1e-5, atol=1e-6)
    assert torch.equal(normalised(torch.zeros(1, 8), torch.tensor([EPSILON])), torch.zeros(1, 8))


@torch.no_grad()
def test_channels_of_each_place_are_normalised_apart():
    torch.manual_seed(0)
    norm, x = ChannelNorm(4), torch.randn(2, 4, 3, 5)
    norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    expected = reference(x.numpy(), 1) * np.array([1, 2, 3, 4])[:, None, None]
    np.testing.assert_allclose(norm(x), expected, rtol=1e-5, atol=1e-6)


def test_normalised_is_written_where_asked():
    x, out = torch.randn(3, 8), torch.empty(3, 8)
    found = normalised(x, torch.tensor([EPSILON]), out=out)
    assert found is out
    np.testing.assert_allclose(out, reference(x.numpy(), -1), rtol=1e-5)


@torch.no_grad()
def test_what_is_added_is_the_same_in_any_precision():
    x = np.full((1, 4, 1, 1), 1e-5)  # its square is far below what is added
    np.testing.assert_allclose(ChannelNorm(4).double()(torch.from_numpy(x)), reference(x, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_weight_of_another_type_is_taken_in_the_type_of_the_input(dtype):
    torch.manual_seed(0)
    norm, x = Norm(8), torch.randn(3, 8)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a kernel that cannot be used
        found = norm(x.to(dtype))
    assert found.dtype == dtype
    expected = reference(x.to(dtype).double().numpy(), -1) * norm.weight.detach().double().numpy()
    np.testing.assert_allclose(found.detach().double(), expected, rtol=0.02 if dtype != torch.float64 else 1e-6)
    found.sum().backward()
    assert norm.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("order", ["rows", "another"])
def test_gradients_are_those_of_finite_differences(order):
    torch.manual_seed(0)
    norm, x = Norm(6).double(), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    x = (x if order == "rows" else x.transpose(1, 2)).requires_grad_()

    def normed(x, weight):
        return torch.func.functional_call(norm, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(normed, (x, norm.weight))


def test_gradients_in_float32_are_those_of_pytorch():
    torch.manual_seed(0)
    norm, given = Norm(64), torch.randn(7, 64)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    for forward in (norm, lambda x: torch.nn.functional.rms_norm(x, (64,), norm.weight, EPSILON)):
        norm.weight.grad = None
        x = (given * 3).requires_grad_()
        (forward(x) * given.flip(0)).sum().backward()
        if forward is norm:
            expected = x.grad, norm.weight.grad
    for found, other in zip(expected, (x.grad, norm.weight.grad), strict=True):
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-5)


def test_single_precision_stays_so_under_autocast():
    torch.manual_seed(0)
    norm, given = Norm(64), torch.randn(7, 64)
    found = []
    for enabled in (False, True):
        norm.weight.grad = None
        x = given.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            normed = norm(x)
            (normed * given.flip(0)).sum().backward()
        found.append((normed, x.grad, norm.weight.grad))
    for plain, mixed in zip(*found, strict=True):
        assert torch.equal(plain, mixed)
