import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers.ranks import (
    from_first_rank,
    number_on_all_ranks,
    place_on_every_rank,
    sample_rows,
    sum_over_ranks,
)
from tests.support.distributed import on_two_ranks


def sampled(rows, count, seed=0, counted=None):
    """The rows that are chosen on one process, and how many there are."""
    counted = torch.ones(len(rows), dtype=torch.bool) if counted is None else counted
    sample = sample_rows(rows, counted, counted.sum()[None], count, seed)
    assert sample.rows.shape == (count, rows.shape[1])
    assert (sample.rows[int(sample.number) :] == 0).all()
    return sample.rows[: int(sample.number)]


@settings(max_examples=60)
@given(total=st.integers(0, 70), count=st.integers(1, 80), seed=st.integers(0, 2**30), spoiled=st.integers(0, 2**20))
def test_draws_distinct_rows_of_those_that_count(total, count, seed, spoiled):
    counted = torch.tensor([not spoiled >> row % 20 & 1 for row in range(total)], dtype=torch.bool)
    rows = torch.arange(1.0, total + 1)[:, None].expand(total, 2)
    rows = rows.masked_fill(~counted[:, None], float("nan"))
    chosen = sampled(rows, count, seed, counted)[:, 0].tolist()
    assert len(chosen) == min(count, int(counted.sum()))
    assert len(set(chosen)) == len(chosen)
    assert all(counted[int(row) - 1] for row in chosen)


def test_other_seeds_choose_other_rows_in_another_order():
    rows = torch.arange(1000.0)[:, None]
    draws = [sampled(rows, 10, seed).flatten().tolist() for seed in range(20)]
    assert len({tuple(draw) for draw in draws}) == 20
    assert draws == [sampled(rows, 10, torch.tensor(seed)).flatten().tolist() for seed in range(20)]
    assert sum(draw == sorted(draw) for draw in draws) == 0


def test_every_row_is_chosen_equally_often_and_comes_first_equally_often():
    rows = torch.arange(24.0)[:, None]
    draws = torch.stack([sampled(rows, 7, seed).flatten() for seed in range(3000)]).long()
    often = torch.bincount(draws.flatten(), minlength=24) / 3000
    first = torch.bincount(draws[:, 0], minlength=24) / 3000
    torch.testing.assert_close(often, torch.full((24,), 7 / 24), atol=0.03, rtol=0)
    torch.testing.assert_close(first, torch.full((24,), 1 / 24), atol=0.015, rtol=0)


def test_rows_are_chosen_evenly_within_their_strata():
    """Of 10 rows, one of each half: how far apart they lie, around the end, against all pairs of two halves."""
    rows = torch.arange(10.0)[:, None]
    draws = torch.stack([sampled(rows, 2, seed).flatten() for seed in range(2000)]).long()
    often = torch.bincount((draws[:, 1] - draws[:, 0]) % 10, minlength=10) / 2000
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5, 10))
    apart = torch.bincount(pairs[:, 1] - pairs[:, 0], minlength=10) / 25
    torch.testing.assert_close(often, apart, atol=0.025, rtol=0)


def test_one_process_has_all_rows():
    assert number_on_all_ranks(torch.zeros(7, 2)) == 7


def _sample(rank, first_share, spoiled):
    joined, counted = torch.arange(1.0, 13.0).reshape(6, 2), torch.tensor([row != spoiled for row in range(6)])
    mine = slice(0, first_share) if rank == 0 else slice(first_share, 6)
    counts = place_on_every_rank(counted[mine].sum())
    sum_over_ranks(counts)
    sample = sample_rows(joined[mine], counted[mine], counts, 4, seed=3)
    return {"rows": sample.rows, "number": sample.number}


CASES = [(share, spoiled) for share in (3, 5, 6) for spoiled in (-1, 1)]  # share 6 leaves the second rank without rows


def _on_rank(rank):
    one, two, three = torch.full((2, 3), rank + 1.0), torch.tensor(10.0 * rank), torch.zeros(0, 4)
    sum_over_ranks(one, two, three)
    first = torch.tensor([rank + 7.0])
    from_first_rank(first)
    places = place_on_every_rank(torch.tensor(rank + 5))
    number = torch.tensor(number_on_all_ranks(torch.zeros(rank + 2, 3)))
    sums = {"one": one, "two": two, "three": three, "places": places, "first": first, "number": number}
    return sums | {f"{share} {spoiled}": _sample(rank, share, spoiled) for share, spoiled in CASES}


def test_two_ranks_sum_each_tensor_and_choose_the_rows_that_one_process_would():
    for rank, found in enumerate(on_two_ranks(_on_rank)):
        assert found["one"].tolist() == [[3.0] * 3] * 2
        assert found["two"] == 10
        assert found["three"].shape == (0, 4)
        assert found["places"].tolist() == [5 * (rank == 0), 6 * (rank == 1)]
        assert found["first"].tolist() == [7]
        assert found["number"] == 2 + 3
        for share, spoiled in CASES:
            sample, alone = found[f"{share} {spoiled}"], _sample(0, 6, spoiled)
            assert torch.equal(torch.from_numpy(sample["rows"]), alone["rows"])
            assert sample["number"] == alone["number"] == 4
