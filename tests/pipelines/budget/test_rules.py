from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.budget import rules
from pipelines.budget.rules import Choice, Facts, data_choices, grid_for, lengths


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
    assert grid_for(*size, places) == expected


@given(st.integers(2, 80), st.integers(2, 80), st.sampled_from([8, 16]))
def test_a_grid_fits_the_padded_image(half_height, half_width, places):
    height, width = 4 * half_height, 4 * half_width
    factor, padding, grid = grid_for(height, width, places)
    assert (height + 2 * padding, width + 2 * padding) == (factor * grid[0], factor * grid[1])


def test_sides_that_nothing_divides_are_refused():
    with pytest.raises(ValueError, match=r"data.image_size=\[33,64\]: no grid of codes fits"):
        grid_for(33, 64, 8)


def values(choices):
    return {one.key: one.value for one in choices}


def test_few_images_get_copies_and_a_small_codebook():
    few, many = (values(data_choices(Facts(images, images, 64, 64, 2))) for images in (20, 100_000))
    assert (few["codes.copies"], many["codes.copies"]) == (16, 1)
    assert (few["stage1.quantizer.codebook_size"], many["stage1.quantizer.codebook_size"]) == (256, 512)
    assert few["stage1.batch_size"] == 20  # no more than there are
    assert few["stage2.batch_size"] == 32
    assert few["data.augmentation.shift"] == 2


def test_few_images_are_shaken_and_their_prior_drops_more():
    few, many = (values(data_choices(Facts(20_000, distinct, 64, 64, 2))) for distinct in (9_999, 10_000))
    assert few["data.augmentation.rotate"] == 5.0
    assert few["stage2.model.dropout"] == 0.2
    assert not {"data.augmentation.rotate", "data.augmentation.scale", "stage2.model.dropout"} & set(many)


def test_pixel_art_is_neither_turned_nor_scaled():
    keys = [set(values(data_choices(Facts(100, 100, 32, 32, 0, colours)))) for colours in (48, 49)]
    assert keys[1] - keys[0] == {"data.augmentation.rotate", "data.augmentation.scale"}


def test_samples_are_guided_where_there_are_classes():
    guidance = [
        values(data_choices(Facts(100, 100, 64, 64, classes))).get("sampling.guidance") for classes in (0, 1, 2, 9)
    ]
    assert guidance == [None, None, 2.0, 2.0]


def test_the_reason_says_how_many_images_are_distinct():
    reasons = [data_choices(Facts(1_000, distinct, 64, 64, 0))[0].reason for distinct in (1_000, 900)]
    assert reasons == [
        "1,000 training images: each code is to be seen often",
        "1,000 training images, 900 distinct: each code is to be seen often",
    ]


def test_models_come_from_small_to_large_and_grids_from_fine_to_coarse():
    assert [values(one)["stage1.model.width"] for one in rules.tokenizers()] == [64, 128]
    assert [values(one)["stage2"] for one in rules.priors()] == ["transformer_small", "transformer"]
    assert [values(one)["stage1.model.downsample_factor"] for one in rules.grids(64, 64)] == [4, 8]


@pytest.mark.parametrize(
    ("originals", "expected"),
    [
        ({(28, 28): 9}, [[28, 28]]),  # small and all of one size: as they are
        ({(48, 64): 9}, [[48, 64]]),
        ({(28, 28): 9, (32, 32): 1}, [[28, 28]]),
        ({(30, 30): 9}, [[28, 28]]),  # whose sides 4 does not divide
        ({(100, 100): 9}, [[64, 64]]),
        ({(128, 200): 5, (300, 300): 4}, [[64, 64], [128, 128]]),
        ({(1024, 768): 9}, [[64, 64], [128, 128], [256, 256]]),
        ({(3, 500): 9}, [[4, 4]]),
    ],
)
def test_sizes_of_images_that_are_tried(originals, expected):
    assert [one.value for one in rules.image_sizes(Counter(originals))] == expected


def test_a_size_says_what_the_images_have():
    found = rules.image_sizes(Counter({(128, 200): 3, (300, 300): 1}))
    assert found[0].reason == "75% of the images have 128×200; the largest size that gets enough steps"


def test_grey_images_have_one_channel():
    assert values(rules.channel_choices(["L", "I;16"])) == {"data.channels": 1}
    assert rules.channel_choices(["L", "RGB"]) == []


def test_hardware_is_changed_only_for_faster_steps():
    variant = [Choice("hardware.channels_last", True, "")]
    assert rules.hardware_choices(variant, 0.91) == []
    (chosen,) = rules.hardware_choices(variant, 0.5)
    assert (chosen.value, chosen.reason) == (True, "steps take 50% of the time here")
    assert len(rules.hardware_variants(bfloat16=True)) == 1


def test_steps_fill_the_time():
    found = values(lengths("stage2", seconds=100.0, step=0.25))
    assert found["stage2.trainer.max_steps"] == 400
    assert found["stage2.trainer.validate_every"] == found["stage2.trainer.checkpoint_every"] == 50
    assert found["stage2.trainer.ema_decay"] == 0.97
    assert "stage1.trainer.ema_decay" not in values(lengths("stage1", 100.0, 0.25))
    assert values(lengths("stage1", 0.1, 1.0))["stage1.trainer.max_steps"] == 1
