import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.codes import CodeLayout

grids = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


@given(grids, st.integers(0, 3))
def test_split_and_join_are_inverse(shapes, batch):
    layout = CodeLayout(tuple(shapes), tuple(range(2, 2 + len(shapes))))
    codes = torch.arange(batch * layout.length).reshape(batch, layout.length)
    parts = layout.split(codes)
    assert [tuple(part.shape) for part in parts] == [(batch, *shape) for shape in shapes]
    assert torch.equal(layout.join(parts), codes)


def test_split_returns_views_in_raster_order():
    layout = CodeLayout(((1, 2), (2, 3)), (4, 8))
    codes = torch.arange(8)[None]
    top, bottom = layout.split(codes)
    assert top.tolist() == [[[0, 1]]]
    assert bottom.tolist() == [[[2, 3, 4], [5, 6, 7]]]
    bottom[0, 0, 0] = 99
    assert codes[0, 2] == 99


def test_sizes():
    layout = CodeLayout(((2, 2), (3,)), (5, 7))
    assert (layout.length, layout.lengths, layout.vocabulary) == (7, (4, 3), 7)
    assert layout.codebook_size_at().tolist() == [5, 5, 5, 5, 7, 7, 7]


def test_round_trip_through_plain_lists():
    layout = CodeLayout(((4, 4), (8, 8)), (512, 256))
    assert CodeLayout.from_dict(layout.to_dict()) == layout
    assert CodeLayout([[4, 4], [8, 8]], [512, 256]) == layout


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [((), ()), (((2, 2),), (4, 4)), (((0, 2),), (4,)), (((1, 1, 1, 1),), (4,)), (((2, 2),), (0,))],
)
def test_impossible_layouts_are_refused(shapes, sizes):
    with pytest.raises(ValueError, match=r"grid|codebook"):
        CodeLayout(shapes, sizes)


def test_foreign_codes_are_refused():
    layout = CodeLayout(((1, 2), (2,)), (4, 8))
    layout.check(torch.tensor([[3, 0, 7, 0]]))
    with pytest.raises(ValueError, match="0 to 3, got 0 to 4"):
        layout.check(torch.tensor([[4, 0, 7, 0]]))
    with pytest.raises(ValueError, match=r"\[B, 4\] expected, got \[1, 5\]"):
        layout.split(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="one part"):
        layout.join([torch.zeros(1, 1, 2)])
