import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.batch_invariance import LARGEST, SMALLEST, in_passes, pass_size


@given(first=st.integers(0, 20), count=st.integers(1, 20), size=st.integers(1, 7))
def test_every_row_stands_at_its_images_place_in_a_pass_of_full_size(first, count, size):
    images = torch.arange(first, first + count)
    shapes, steps = [], []

    def compute(rows, more):
        shapes.append((len(rows), len(more)))
        place = torch.arange(size)
        return torch.stack([rows[:, 0], more, place, torch.full((size,), torch.get_num_threads())], 1)

    found = in_passes(compute, first, size, images[:, None], images * 2, progress=steps.append)
    threads = torch.ones_like(images)
    assert torch.equal(found, torch.stack([images, images * 2, images % size, threads], 1))
    assert set(shapes) == {(size, size)}
    assert len(steps) == len(shapes)
    assert sum(steps) == count
    assert min(steps) > 0


def test_the_number_of_threads_is_given_back():
    def fail(rows):
        raise RuntimeError("no")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        in_passes(lambda rows: rows, 0, 2, torch.zeros(1))
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError):
            in_passes(fail, 0, 2, torch.zeros(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("side", [1, 7, 8, 16, 19, 32, 64, 300])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_passes_are_of_a_size_that_fits(side, device):
    size = pass_size(CodeLayout(((side, side),), (8,)), torch.device(device))
    assert size % SMALLEST == 0
    assert SMALLEST <= size <= LARGEST
