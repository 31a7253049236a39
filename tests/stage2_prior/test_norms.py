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
