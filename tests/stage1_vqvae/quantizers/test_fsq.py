import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers.fsq import FSQ

level_lists = st.lists(st.integers(3, 9), min_size=1, max_size=4)


def papers_levels(z, levels):
    """Section 3.1 in numpy, one channel at a time: integers from -⌊L/2⌋ on."""
    found = np.empty_like(z)
    for channel, count in enumerate(levels):
        half = (count - 1) * 1.001 / 2
        offset = 0.5 if count % 2 == 0 else 0.0
        found[:, channel] = np.round(np.tanh(z[:, channel] + np.arctanh(offset / half)) * half - offset)
    return found


@settings(max_examples=20)
@given(levels=level_lists)
def test_every_index_comes_back(levels):
    quantizer = FSQ(levels).eval()
    every = torch.arange(int(np.prod(levels)))[None]  # [1, K]
    vectors = quantizer.lookup(every)  # [1, D, K]
    assert len(vectors[0].T.unique(dim=0)) == every.numel()
    # Back to where the bound sends them: the middle of each level.
    count = torch.tensor(levels)[:, None].double()
    half, offset = (count - 1) * 1.001 / 2, (count % 2 == 0) * 0.5
    z = torch.atanh((vectors[0].double() * (count // 2) + offset) / half) - torch.atanh(offset / half)
    again = quantizer(z[None].float())
    assert torch.equal(again.codes, every)
    assert torch.equal(again.vectors, vectors)


@settings(max_examples=20)
@given(levels=level_lists, seed=st.integers(0, 99))
def test_rounds_as_the_paper_says_in_numpy(levels, seed):
    z = np.random.default_rng(seed).normal(scale=2, size=(2, len(levels), 5))
    quantized = FSQ(levels)(torch.from_numpy(z))
    expected = papers_levels(z, levels)
    half = np.array(levels)[:, None] // 2
    np.testing.assert_array_equal(quantized.vectors.numpy(), (expected / half).astype(np.float32))
    strides = np.cumprod([1, *levels[:-1]])
    np.testing.assert_array_equal(quantized.codes.numpy(), np.einsum("bdl,d->bl", expected + half, strides))


@pytest.mark.parametrize("levels", [[8, 8, 8], [8, 5, 5, 5], [3, 4]])
def test_zero_stays_zero_and_finite_values_reach_the_outer_levels(levels):
    quantizer = FSQ(levels)
    assert torch.equal(quantizer(torch.zeros(1, len(levels), 2)).vectors, torch.zeros(1, len(levels), 2))
    assert FSQ([3])(torch.zeros(1, 1, 2)).loss == 0
    low, high = quantizer(torch.tensor([-9.0, 9.0]).expand(1, len(levels), 2)).codes[0]
    assert (low, high) == (0, np.prod(levels) - 1)


def test_gradient_is_that_of_the_bound():
    torch.manual_seed(0)
    levels = [8, 5]
    z = torch.randn(2, 2, 4, requires_grad=True)
    weight = torch.randn(2, 2, 4)
    quantized = FSQ(levels)(z)
    ((quantized.vectors * weight).sum() + quantized.loss).backward()
    half = (np.array(levels) - 1) * 1.001 / 2
    shift = np.arctanh(np.array([0.5, 0.0]) / half)
    slope = (1 - np.tanh(z.detach().numpy() + shift[:, None]) ** 2) * (half / (np.array(levels) // 2))[:, None]
    np.testing.assert_allclose(z.grad.numpy(), slope * weight.numpy(), rtol=1e-4, atol=1e-6)
    assert quantized.loss.item() == 0


def test_has_no_state():
    assert FSQ([4, 4]).state_dict() == {}
    assert list(FSQ([4, 4]).parameters()) == []


@pytest.mark.parametrize("levels", [[], [8, 2]])
def test_wrong_levels_are_refused(levels):
    with pytest.raises(ValueError, match="at least 3"):
        FSQ(levels)
