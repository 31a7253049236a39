import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.budget.rules import Facts, data_choices, grid_for, lengths, model_choices


@pytest.mark.parametrize(
    ("size", "places", "expected"),
    [
        ((64, 64), 16, (4, 0, (16, 16))),
        ((64, 64), 8, (8, 0, (8, 8))),
        ((28, 28), 8, (4, 0, (7, 7))),
        ((28, 28), 16, (2, 0, (14, 14))),
        ((128, 64), 16, (8, 0, (16, 8))),
        ((32, 32), 16, (2, 0, (16, 16))),
        ((30, 30), 8, (4, 1, (8, 8))),
    ],
)
def test_grids(size, places, expected):
    assert grid_for(Facts(100, *size, 0), places) == expected


@given(st.integers(2, 80), st.integers(2, 80), st.sampled_from([8, 16]))
def test_a_grid_fits_the_padded_image(half_height, half_width, places):
    facts = Facts(100, 4 * half_height, 4 * half_width, 0)
    factor, padding, grid = grid_for(facts, places)
    assert (facts.height + 2 * padding, facts.width + 2 * padding) == (factor * grid[0], factor * grid[1])


def test_sides_that_nothing_divides_are_refused():
    with pytest.raises(ValueError, match=r"data.image_size=\[33,64\]: no grid of codes fits"):
        grid_for(Facts(100, 33, 64, 0), 8)


def values(choices):
    return {one.key: one.value for one in choices}


def test_few_images_get_copies_and_a_small_codebook():
    few, many = (values(data_choices(Facts(images, 64, 64, 2))) for images in (20, 100_000))
    assert (few["codes.copies"], many["codes.copies"]) == (16, 1)
    assert (few["stage1.quantizer.codebook_size"], many["stage1.quantizer.codebook_size"]) == (256, 512)
    assert few["stage1.batch_size"] == 20  # no more than there are
    assert few["stage2.batch_size"] == 64
    assert few["data.augmentation.shift"] == 2


def test_few_images_are_shaken_and_their_prior_drops_more():
    few, many = (values(data_choices(Facts(images, 64, 64, 2))) for images in (9_999, 10_000))
    assert few["data.augmentation.rotate"] == 5.0
    assert few["stage2.model.dropout"] == 0.2
    assert not {"data.augmentation.rotate", "data.augmentation.scale", "stage2.model.dropout"} & set(many)


def test_samples_are_guided_where_there_are_classes():
    guidance = [values(data_choices(Facts(100, 64, 64, classes))).get("sampling.guidance") for classes in (0, 1, 2, 9)]
    assert guidance == [None, None, 2.0, 2.0]


def test_models_come_from_large_to_small():
    found = [values(choices) for choices in model_choices(Facts(1000, 64, 64, 2))]
    assert [(one["stage1.model.width"], one["stage1.model.downsample_factor"]) for one in found] == [
        (128, 4),
        (64, 4),
        (64, 8),
    ]


def test_steps_fill_the_time():
    found = values(lengths("stage2", seconds=100.0, step=0.25))
    assert found["stage2.trainer.max_steps"] == 400
    assert found["stage2.trainer.validate_every"] == found["stage2.trainer.checkpoint_every"] == 50
    assert found["stage2.trainer.ema_decay"] == 0.97
    assert "stage1.trainer.ema_decay" not in values(lengths("stage1", 100.0, 0.25))
    assert values(lengths("stage1", 0.1, 1.0))["stage1.trainer.max_steps"] == 1
