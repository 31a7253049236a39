"""Entropies over all codes, against the whole N × K softmax."""

import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.binary_entropy import entropy, mean_distribution, over_ranks, sample_entropy
from tests.support.distributed import on_two_ranks


def whole_softmax(logits):
    """Distribution over the corners of ±1 whose bits have these logits: softmax(-|z - c|²) with z = logits / 4."""
    bits = logits.shape[1]
    corners = torch.tensor([[2 * (code >> bit & 1) - 1 for bit in range(bits)] for code in range(2**bits)])
    return (-(logits[:, None] / 4 - corners).square().sum(2)).softmax(1)  # [N, K]


@pytest.mark.parametrize("bits", [1, 2, 3, 6, 7])
def test_both_entropies_and_their_gradients_are_those_of_the_whole_softmax(bits):
    torch.manual_seed(bits)
    logits = (3 * torch.randn(11, bits, dtype=torch.float64)).requires_grad_()
    shares = whole_softmax(logits)
    mean = mean_distribution(logits)
    torch.testing.assert_close(mean, shares.mean(0))
    for ours, brute in [
        (sample_entropy(logits), torch.special.entr(shares).sum(1).mean()),
        (entropy(mean), torch.special.entr(shares.mean(0)).sum()),
    ]:
        torch.testing.assert_close(ours, brute)
        slopes = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (ours, brute)]
        torch.testing.assert_close(*slopes)


def test_eighteen_bits_hold_no_tensor_of_rows_times_codes():
    torch.manual_seed(0)
    logits = torch.randn(256, 18, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: sizes.append(saved.numel()) or saved, lambda x: x):
        found = entropy(mean_distribution(logits))
    found.backward()
    assert max(sizes) <= 2**18  # one distribution over the codes; rows times codes would be 2^26
    assert 0 < found.item() < 18 * np.log(2)
    assert logits.grad.isfinite().all()


def test_certain_bits_give_finite_gradients():
    logits = torch.tensor([[500.0, -500.0], [500.0, 500.0]], requires_grad=True)
    difference = sample_entropy(logits) - entropy(mean_distribution(logits))
    difference.backward()
    assert difference.item() == pytest.approx(-np.log(2))
    assert logits.grad.isfinite().all()


def rows():
    return torch.randn(10, 5, generator=torch.Generator().manual_seed(0))


def _entropy_and_gradient(logits):
    logits = logits.clone().requires_grad_()
    mean = over_ranks(mean_distribution(logits), len(logits))
    entropy(mean).backward()
    return {"mean": mean, "gradient": logits.grad}


def _of_part(rank, share):
    return _entropy_and_gradient(rows()[:share] if rank == 0 else rows()[share:])


@pytest.mark.parametrize("share", [5, 7])
def test_two_ranks_have_the_joined_batchs_entropy_and_averaged_gradient(share):
    alone = _entropy_and_gradient(rows())
    first, second = on_two_ranks(_of_part, share)
    for rank in (first, second):
        np.testing.assert_allclose(rank["mean"], alone["mean"].detach(), rtol=1e-5, atol=1e-7)
    # DistributedDataParallel halves what each of two ranks contributes.
    joined = np.concatenate([first["gradient"], second["gradient"]]) / 2
    np.testing.assert_allclose(joined, alone["gradient"], rtol=1e-4, atol=1e-7)
