import pytest
import torch

from stage2_prior.pixelcnn.conditioning import Condition, Refinement, ResidualBlock


@torch.no_grad()
def reach(condition, shapes, sizes, place):
    """bool per coarser grid ``[h, w]``: whether its code at each place changes the condition at ``place``."""
    torch.manual_seed(0)
    codes = [torch.randint(size, (1, *shape)) for shape, size in zip(shapes, sizes, strict=True)]
    labels = torch.tensor([0])
    base = condition(labels, codes)[0, :, place[0], place[1]]
    found = []
    for grid, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        seen = torch.zeros(shape, dtype=torch.bool)
        for row in range(shape[0]):
            for column in range(shape[1]):
                changed = [each.clone() for each in codes]
                changed[grid][0, row, column] = (changed[grid][0, row, column] + 1) % size
                seen[row, column] = not torch.equal(condition(labels, changed)[0, :, place[0], place[1]], base)
        found.append(seen)
    return found


def test_without_coarser_grids_it_is_the_label():
    condition = Condition([(4, 4)], 8, 3, [], 2)
    labels = torch.tensor([0, 3, 1])
    assert torch.equal(condition(labels, [])[:, :, 0, 0], condition.label(labels))
    assert sum(p.numel() for p in condition.parameters()) == 4 * 8


def test_a_coarse_code_reaches_its_own_block_and_those_around_it():
    shapes, sizes = [(5, 5), (10, 10)], [4]
    condition = Condition(shapes, 8, 2, sizes, blocks=1).double()  # two 3×3 convolutions see two cells to all sides
    (seen,) = reach(condition, shapes[:1], sizes, (1, 9))
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[:3, 2:] = True
    assert torch.equal(seen, expected)


def test_every_place_of_a_block_has_weights_of_its_own():
    refine = Refinement((2, 3), (4, 9), 6, blocks=0)
    with torch.no_grad():
        found = refine(torch.ones(1, 6, 2, 3))
    assert found.shape == (1, 6, 4, 9)
    block = found[:, :, :2, :3]
    assert len(block.flatten(2).unique(dim=2)[0, 0]) == 6
    assert torch.equal(found, block.repeat(1, 1, 2, 3))


def test_all_coarser_grids_count_and_those_of_one_shape_share_a_network():
    shapes, sizes = [(1, 2), (2, 4), (2, 4), (4, 8)], [3, 5, 4]
    condition = Condition(shapes, 8, 2, sizes, blocks=2).double()
    assert sum(isinstance(module, ResidualBlock) for module in condition.modules()) == 4
    assert all(seen.any() for seen in reach(condition, shapes[:3], sizes, (0, 0)))


@torch.no_grad()
def test_codes_of_every_grid_are_added_to_what_coarser_ones_gave():
    torch.manual_seed(0)
    shapes, sizes = [(1, 2), (2, 4), (2, 4), (4, 8)], [3, 5, 4]
    condition, labels = Condition(shapes, 8, 2, sizes, blocks=1), torch.tensor([0, 2])
    codes = [torch.randint(size, (2, *shape)) for shape, size in zip(shapes[:3], sizes, strict=True)]
    embedded = [embed.weight[rows] for embed, rows in zip(condition.codes, codes, strict=True)]
    first, second, third = (each.permute(0, 3, 1, 2) for each in embedded)
    upsample, _, last = condition.refinements
    expected = condition.label.weight[labels][:, :, None, None] + last(third + second + upsample(first))
    torch.testing.assert_close(condition(labels, codes), expected)


@pytest.mark.parametrize("finer", [(3, 5), (2, 2), (4, 6), (1, 7)])
def test_any_shape_comes_out_as_asked(finer):
    assert Refinement((2, 2), finer, 4, blocks=1)(torch.zeros(2, 4, 2, 2)).shape == (2, 4, *finer)
