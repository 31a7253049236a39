import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers import search
from stage1_vqvae.quantizers.search import nearest


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 40), k=st.integers(1, 20), d=st.integers(1, 5), tile=st.integers(1, 64), seed=st.integers(0, 9))
def test_equals_brute_force_for_any_tile(n, k, d, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    points, codebook = torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)
    before, search.CPU_TILE = search.CPU_TILE, tile
    try:
        found = nearest(points, codebook)
    finally:
        search.CPU_TILE = before
    distance = ((points.double().numpy()[:, None] - codebook.double().numpy()) ** 2).sum(-1)
    assert np.array_equal(found.numpy(), distance.argmin(1))


def test_ties_go_to_the_lowest_index():
    codebook = torch.tensor([[5.0], [1.0], [1.0], [-1.0], [1.0]])
    assert nearest(torch.tensor([[1.0], [0.9], [0.0]]), codebook).tolist() == [1, 1, 1]
