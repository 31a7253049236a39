import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage2_prior.sampling.truncation import keep_min_p, keep_top_k, keep_top_p

ROW = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()[None]


def kept(logits):
    return (logits[0] > -torch.inf).tolist()


def nucleus(probabilities, share):
    """Nucleus by a full sort, in whole units of 2^-40, codes tied with the last one included."""
    mass = np.round(probabilities.astype(np.float64) * 2**40).astype(np.int64)
    ordered = np.sort(probabilities)[::-1]
    held = np.cumsum(mass[np.argsort(-probabilities, kind="stable")])
    last = ordered[np.argmax(held >= share * mass.sum())]
    return probabilities >= last


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.3, [1, 0, 0, 0]), (0.6, [1, 1, 0, 0]), (0.9, [1, 1, 1, 0]), (0.97, [1, 1, 1, 1]), (1.0, [1, 1, 1, 1])],
)
def test_top_p_by_hand(share, expected):
    assert kept(keep_top_p(ROW, share)) == expected
    assert kept(keep_top_p(ROW.flip(-1), share)) == expected[::-1]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), codes=st.integers(1, 3000), spread=st.floats(0.01, 30), share=st.floats(0.001, 0.9999)
)
def test_top_p_equals_numpy(seed, codes, spread, share):
    rows = torch.randn(3, codes, generator=torch.Generator().manual_seed(seed)) * spread
    cut = keep_top_p(rows, share)
    for row, found in zip(rows.softmax(-1).numpy(), cut, strict=True):
        assert np.array_equal((found > -torch.inf).numpy(), nucleus(row, share))
    assert torch.equal(cut[cut > -torch.inf], rows[cut > -torch.inf])


def test_top_p_of_many_codes():
    rows = torch.randn(2, 16384, generator=torch.Generator().manual_seed(0)) * 3
    for row, found in zip(rows.softmax(-1).numpy(), keep_top_p(rows, 0.9), strict=True):
        assert np.array_equal((found > -torch.inf).numpy(), nucleus(row, 0.9))


def test_codes_as_likely_as_the_last_are_kept_wherever_they_stand():
    tied = torch.tensor([[1.0, 2.0, 1.0, 0.0, 1.0]])
    expected = [True, True, True, False, True]
    assert kept(keep_top_k(tied, 2)) == kept(keep_top_p(tied, 0.6)) == kept(keep_min_p(tied, 0.3)) == expected
    assert kept(keep_top_p(torch.zeros(1, 100), 0.01)) == [True] * 100


def test_top_k_and_min_p_by_hand():
    assert kept(keep_top_k(ROW, 2)) == [True, True, False, False]
    assert kept(keep_min_p(ROW, 0.2)) == [True, True, True, False]
    assert kept(keep_min_p(ROW, 1.0)) == [True, False, False, False]


@pytest.mark.parametrize("keep", [keep_top_k, keep_top_p, keep_min_p])
def test_the_likeliest_code_always_stays_and_impossible_ones_never_return(keep):
    least = 1 if keep is keep_top_k else 1e-9
    logits = torch.tensor([[-torch.inf, -90.0, 0.0, -torch.inf, 5.0]])
    strictest = 1.0 if keep is keep_min_p else least
    assert kept(keep(logits, strictest)) == [False, False, False, False, True]
    loosest = {keep_top_k: 5, keep_top_p: 1.0, keep_min_p: 0.0}[keep]
    assert torch.equal(keep(logits, loosest), logits)
    single = torch.full((1, 4), -torch.inf).index_fill(1, torch.tensor([2]), 0.0)
    assert torch.equal(keep(single, least), single)
