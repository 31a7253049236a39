import numpy as np
import pytest
import torch

from stage1_vqvae import code_noise
from stage1_vqvae.code_noise import CodeNoise, check_codebooks, nearest_others
from stage1_vqvae.codes import CodeLayout


def by_brute_force(codebook, count):
    """Nearest others of each row, by distances in float64."""
    vectors = codebook.double().numpy()
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, 1)[:, : min(count, len(vectors) - 1)]


@pytest.mark.parametrize(("size", "count"), [(40, 5), (4, 8), (1, 8)])
def test_neighbours_are_the_nearest_others(size, count, monkeypatch):
    torch.manual_seed(0)
    codebook = torch.randn(size, 3) + 100  # far from the origin
    expected = by_brute_force(codebook, count)
    np.testing.assert_array_equal(nearest_others(codebook, count).numpy(), expected)
    monkeypatch.setattr(code_noise, "DISTANCES", 70)  # a row or two at a time
    np.testing.assert_array_equal(nearest_others(codebook, count).numpy(), expected)


def test_a_share_of_codes_becomes_one_of_its_neighbours_each_as_often():
    torch.manual_seed(0)
    layout = CodeLayout(((2, 2), (5, 5), (1, 1)), (6, 30, 1))
    codebooks = [torch.randn(size, 4) for size in layout.codebook_sizes]
    noise = CodeNoise(layout, codebooks, share=0.25, neighbours=3)
    codes = torch.cat([torch.randint(size, (4000, n)) for size, n in zip((6, 30, 1), (4, 25, 1), strict=True)], 1)
    torch.manual_seed(1)
    noisy = noise(codes)
    torch.manual_seed(1)
    assert torch.equal(noise(codes), noisy)
    layout.check(noisy)
    for codebook, before, after in zip(codebooks[:2], layout.split(codes), layout.split(noisy), strict=False):
        others = by_brute_force(codebook, 3)
        before, after = before.flatten().numpy(), after.flatten().numpy()
        moved = before != after
        assert abs(moved.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(moved))
        ranks = (others[before[moved]] == after[moved][:, None]).mean(0)  # of the nearest, the second, the third
        np.testing.assert_allclose(ranks, 1 / 3, atol=4 * np.sqrt(2 / 9 / moved.sum()))
    assert torch.equal(layout.split(noisy)[2], layout.split(codes)[2]), "a codebook of one code is left alone"


def test_what_is_no_noise_is_refused():
    layout = CodeLayout(((2, 2),), (6,))
    with pytest.raises(ValueError, match=r"noise is a share of codes in \[0, 1\], got 1.5"):
        CodeNoise(layout, [torch.zeros(6, 2)], 1.5)
    with pytest.raises(ValueError, match="neighbours is at least 1, got 0"):
        CodeNoise(layout, [torch.zeros(6, 2)], 0.5, 0)
    with pytest.raises(ValueError, match=r"noise: grid 1 has 65,537 codes.*give noise=0"):
        check_codebooks((8, 65537))
