import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers import search
from stage1_vqvae.quantizers.search import nearest, unit_length


@pytest.fixture
def small_tiles(monkeypatch):
    """Every boundary that large codebooks have, in small ones."""
    monkeypatch.setattr(search, "CPU_TILE", 96)
    monkeypatch.setattr(search, "COLUMNS", 12)
    monkeypatch.setattr(search, "RUN", 4)


def brute_force(points, codebook):
    """In float64; argmin takes the lowest index of equal distances."""
    return ((points.double().numpy()[:, None] - codebook.double().numpy()) ** 2).sum(-1).argmin(1)


@settings(max_examples=40)
@given(n=st.integers(0, 40), k=st.integers(1, 50), d=st.integers(1, 5), tile=st.integers(1, 64), seed=st.integers(0, 9))
def test_equals_brute_force_for_any_tile(n, k, d, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    points, codebook = torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CPU_TILE", tile)
        patch.setattr(search, "COLUMNS", 8)
        patch.setattr(search, "RUN", 4)
        found = nearest(points, codebook)
    assert np.array_equal(found.numpy(), brute_force(points, codebook))


@pytest.mark.parametrize(("n", "k", "d"), [(700, 64, 8), (300, 4096, 3), (50, 9000, 4)])
def test_equals_brute_force_at_the_real_tiles(n, k, d):
    generator = torch.Generator().manual_seed(0)
    points, codebook = torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)
    assert np.array_equal(nearest(points, codebook).numpy(), brute_force(points, codebook))


@settings(max_examples=60)
@given(k=st.integers(1, 60), seed=st.integers(0, 99), far=st.sampled_from([0, 7, -300]))
def test_ties_go_to_the_lowest_index_in_numpy(k, seed, far):
    # Small integers: arithmetic is exact, and nearly every point has several nearest.
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(-2, 3, (20, 2), generator=generator).float() + far
    codebook = torch.randint(-2, 3, (k, 2), generator=generator).float() + far
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CPU_TILE", 64)
        patch.setattr(search, "COLUMNS", 16)
        patch.setattr(search, "RUN", 4)
        found = nearest(points, codebook)
    assert np.array_equal(found.numpy(), brute_force(points, codebook))


def test_repeated_codes_give_the_lowest_index_wherever_they_stand():
    generator = torch.Generator().manual_seed(0)
    distinct = torch.randn(40, 8, generator=generator)
    order = torch.cat([torch.arange(40), torch.randint(40, (9000,), generator=generator)])
    found = nearest(torch.randn(500, 8, generator=generator), distinct[order])
    assert found.max() < 40


def test_far_from_the_origin_as_near_it():
    generator = torch.Generator().manual_seed(0)
    points, codebook = torch.randn(200, 8, generator=generator) + 3000, torch.randn(60, 8, generator=generator) + 3000
    assert np.array_equal(nearest(points, codebook).numpy(), brute_force(points, codebook))


def test_every_point_gets_a_code_and_one_that_is_not_finite_moves_no_other(small_tiles):
    generator = torch.Generator().manual_seed(0)
    points, codebook = torch.randn(30, 3, generator=generator), torch.randn(13, 3, generator=generator)
    expected = nearest(points, codebook)
    spoiled = [3, 17, 29]
    points[3, 1], points[17], points[29, 0] = float("nan"), float("inf"), -float("inf")
    found = nearest(points, codebook)
    rest = [row for row in range(30) if row not in spoiled]
    assert torch.equal(found[rest], expected[rest])
    assert 0 <= found.min() <= found.max() < 13


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_of_lower_precision_are_off_inside_and_allowed_again_after(precision):
    before = torch.get_float32_matmul_precision()
    points, codebook = torch.randn(50, 16), torch.randn(200, 16)
    expected = nearest(points, codebook)
    torch.set_float32_matmul_precision(precision)
    try:
        found = nearest(points, codebook)
        assert torch.get_float32_matmul_precision() == precision
        with search._full_precision():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_moves_no_code(dtype):
    points, codebook = torch.randn(100, 16), torch.randn(300, 16)
    with torch.autocast("cpu", dtype=dtype):
        found = nearest(points, codebook)
    assert torch.equal(found, nearest(points, codebook))


def test_all_scores_are_never_held_at_once(monkeypatch):
    held = []
    plain = torch.addmm
    monkeypatch.setattr(
        torch, "addmm", lambda *a, out: held.append((out.numel(), out.data_ptr())) or plain(*a, out=out)
    )
    nearest(torch.randn(3000, 4), torch.randn(5000, 4))
    assert max(size for size, _ in held) <= search.CPU_TILE < 3000 * 5000
    assert len({place for _, place in held}) == 1  # one buffer


def test_unit_length():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-15, 0.0]], requires_grad=True)
    scaled = unit_length(vectors, 1)
    torch.testing.assert_close(scaled[0], torch.tensor([0.6, 0.8]))
    assert scaled[1].tolist() == [0, 0]
    scaled[:2].sum().backward()
    assert torch.isfinite(vectors.grad).all()
    assert vectors.grad[1].tolist() == [0, 0]
