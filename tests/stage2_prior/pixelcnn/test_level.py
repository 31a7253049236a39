import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.transformer.model import Transformer
from tests.stage2_prior.pixelcnn.test_model import RESIDUAL, ROW, TWO_LEVELS, build, random_codes

LAYOUTS = [TWO_LEVELS, RESIDUAL, ROW, CodeLayout(((2,), (6,)), (3, 4))]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_a_part_says_of_its_grid_what_the_whole_says(layout):
    prior = build(layout, attention_every=2)
    codes, labels = random_codes(layout, 3), torch.tensor([0, -1, 2])
    whole = layout.split(prior.nats(codes, labels))
    for grid, nats in enumerate(whole):
        part = prior.level(grid)
        assert part.layout == CodeLayout((layout.grids[grid],), (layout.codebook_sizes[grid],))
        torch.testing.assert_close(part.nats(codes, labels), nats.flatten(1))
        assert part(codes, labels).shape == (3, part.layout.length, layout.codebook_sizes[grid])


def test_training_a_part_trains_the_whole_and_no_other_part():
    prior = build(TWO_LEVELS)
    prior.level(1).nats(random_codes(TWO_LEVELS, 4)).mean().backward()
    trained = {name for name, parameter in prior.named_parameters() if parameter.grad is not None}
    assert trained
    assert all(name.startswith("stacks.1.") for name in trained)
    assert {name for name, _ in prior.named_parameters() if name.startswith("stacks.1.")} == trained


def test_finer_codes_do_not_count():
    prior = build(TWO_LEVELS)
    codes = random_codes(TWO_LEVELS, 2)
    others = codes.clone()
    others[:, 6:] = (codes[:, 6:] + 1) % 5
    with torch.no_grad():
        assert torch.equal(prior.level(0).nats(codes), prior.level(0).nats(others))


def test_parts_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="grids are 0 to 1, coarse to fine, got level 2"):
        PixelCNN(TWO_LEVELS, layers=1, width=8).level(2)
    with pytest.raises(
        ValueError, match="a Transformer has no part for grid 0 alone: train it whole, or use a PixelCNN"
    ):
        Transformer(TWO_LEVELS, width=16, layers=1, heads=2).level(0)
