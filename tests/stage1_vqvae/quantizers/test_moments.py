import numpy as np
import torch

from stage1_vqvae.quantizers.moments import moments_over_ranks
from tests.support.distributed import on_two_ranks


def rows():
    rows = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)) + 50
    rows[2, 1] = float("nan")  # counts nowhere
    return rows


def _of_part(rank, share):
    return moments_over_ranks(rows()[:share] if rank == 0 else rows()[share:])._asdict()


def of_finite_rows():
    expected = rows().double().numpy()[[0, 1, 3, 4, 5, 6, 7, 8, 9]]
    return {"mean": expected.mean(0), "covariance": np.cov(expected.T, bias=True)}


def test_moments_are_those_of_the_finite_rows():
    for name, value in of_finite_rows().items():
        np.testing.assert_allclose(_of_part(0, 10)[name], value, rtol=1e-4)
    assert moments_over_ranks(rows()[2:3]).mean.isnan().all()


def _of_parts(rank):
    return {str(share): _of_part(rank, share) for share in SHARES}


SHARES = (4, 10)  # the second leaves rank 1 with no rows


def test_moments_are_those_of_the_joined_rows_on_every_rank():
    first, second = on_two_ranks(_of_parts)
    for share in map(str, SHARES):
        for name, value in of_finite_rows().items():
            np.testing.assert_array_equal(first[share][name], second[share][name])
            np.testing.assert_allclose(first[share][name], value, rtol=1e-4)
