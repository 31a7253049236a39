import torch

from stage1_vqvae.quantizers.ranks import pick_rows
from tests.support.distributed import on_two_ranks


def test_picks_distinct_rows():
    rows = torch.arange(10.0)[:, None]
    picked = pick_rows(rows, 4, seed=1).flatten().tolist()
    assert len(set(picked)) == 4
    assert set(picked) <= set(range(10))
    assert len(pick_rows(rows, 99, seed=1)) == 10
    assert len(pick_rows(rows[:0], 3, seed=1)) == 0


def _pick(rank, first_share):
    joined = torch.arange(12.0).reshape(6, 2)
    mine = joined[:first_share] if rank == 0 else joined[first_share:]
    return pick_rows(mine, 4, seed=3)


def test_two_ranks_pick_what_one_process_would():
    alone = pick_rows(torch.arange(12.0).reshape(6, 2), 4, seed=3)
    for first_share in (3, 5, 6):  # the last leaves the second rank without rows
        for picked in on_two_ranks(_pick, first_share):
            assert torch.equal(torch.from_numpy(picked), alone)
