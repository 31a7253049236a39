import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.transformer.rope import coordinates, rope, rotate


def test_rotation_keeps_lengths_and_sees_offsets_alone():
    rotation = rope(coordinates(CodeLayout(((4, 5),), (2,))), 2, 8)
    q, k = torch.randn(8), torch.randn(8)
    rotated_q, rotated_k = (rotate(x.expand(1, 1, 20, 8), rotation)[0, 0] for x in (q, k))
    np.testing.assert_allclose(rotated_q.norm(dim=-1), np.full(20, q.norm().item()), rtol=1e-5)
    products = (rotated_q @ rotated_k.T).view(4, 5, 4, 5)
    # One down and two right, from two different positions.
    torch.testing.assert_close(products[0, 0, 1, 2], products[2, 1, 3, 3])


def test_grids_share_the_finest_ones_coordinates():
    positions = coordinates(CodeLayout(((2, 2), (4, 4)), (2, 2)))
    coarse, fine = positions[:4, :2], positions[4:, :2]
    assert coarse.tolist() == [[1, 1], [1, 3], [3, 1], [3, 3]]
    assert fine[0].tolist() == [0.5, 0.5]
    # The centre of a coarse cell is the mean of the four fine ones in it.
    assert fine.view(2, 2, 2, 2, 2).mean(dim=(1, 3)).view(4, 2).tolist() == coarse.tolist()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_angles_are_positions_times_frequencies_from_1_down_to_the_longest_wavelength(axes):
    """Pair i of n on an axis turns by position / longest^(i / n); the pairs are shared out among the axes."""
    positions = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 10
    found = rope(torch.from_numpy(positions), axes, 16, longest=50.0)
    expected = []
    for axis, pairs in enumerate(np.array_split(np.arange(8), axes)):
        expected += [positions[:, axis] / 50.0 ** (i / len(pairs)) for i in range(len(pairs))]
    angle = np.stack(expected, axis=1)
    np.testing.assert_allclose(found, [np.cos(angle), np.sin(angle)], atol=1e-4)


def test_axes_for_which_no_pair_is_left_turn_nothing():
    positions = torch.randn(5, 3)
    assert torch.equal(rope(positions, 3, 2), rope(positions, 1, 2))
