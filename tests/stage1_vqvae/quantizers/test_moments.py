import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.moments import moments_over_ranks
from tests.support.distributed import on_two_ranks


def rows():
    return torch.randn(9, 3, generator=torch.Generator().manual_seed(0)) + 50


def _of_part(rank, share):
    mean, covariance = moments_over_ranks(rows()[:share] if rank == 0 else rows()[share:])
    return {"mean": mean, "covariance": covariance}


@pytest.mark.parametrize("share", [4, 9])  # the second leaves rank 1 with no rows
def test_moments_are_those_of_the_joined_rows_on_every_rank(share):
    first, second = on_two_ranks(_of_part, share)
    expected = rows().double().numpy()
    for name, value in {"mean": expected.mean(0), "covariance": np.cov(expected.T, bias=True)}.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], value, rtol=1e-4)
