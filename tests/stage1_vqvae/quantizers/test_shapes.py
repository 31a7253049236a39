import numpy as np
import pytest
import torch

from stage1_vqvae.quantizers.shapes import check_sizes, checked, embed, finite, rows_of


def test_one_channel_and_one_code_are_enough():
    check_sizes(1, 1)
    for dim, codebook_size in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"at least 1, got {dim} and {codebook_size}"):
            check_sizes(dim, codebook_size)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((2, 7, 3), " (for [B, *spatial, D] wrap the quantizer in ChannelLast)"),
        ((2, 4, 5), ""),
        ((2, 4), ""),
        ((3,), ""),
    ],
)
def test_only_what_has_its_channels_last_is_advised_to_say_so(shape, advice):
    with pytest.raises(ValueError, match="vectors") as error:
        checked(torch.zeros(shape), 3)
    assert str(error.value) == f"vectors [B, 3, *spatial] expected, got {list(shape)}{advice}"


def test_vectors_are_single_precision_from_then_on():
    z = torch.randn(2, 3, 5).bfloat16()
    assert torch.equal(checked(z, 3), z.float())
    assert checked(z, 3).dtype == torch.float32


def test_rows_and_back():
    z = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    rows = rows_of(torch.from_numpy(z))
    expected = [z[b, :, i, j] for b in range(2) for i in range(2) for j in range(2)]
    np.testing.assert_array_equal(rows, expected)
    assert torch.equal(embed(torch.arange(8).view(2, 2, 2), rows), torch.from_numpy(z))


def test_rows_with_one_value_that_is_none_are_not_finite():
    rows = torch.zeros(4, 3)
    rows[1, 2], rows[3, 0] = torch.nan, -torch.inf
    assert finite(rows).tolist() == [True, False, True, False]
