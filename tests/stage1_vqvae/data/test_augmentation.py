from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.data.augmentation import Augmentation, normalize, to_uint8

ALL = Augmentation(flip=True, shift=2, rotate=10, scale=0.1)


def random_images(count: int, height: int = 9, width: int = 7, channels: int = 3) -> torch.Tensor:
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_all_levels_survive_the_way_there_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    assert torch.equal(to_uint8(normalize(levels)), levels)
    assert normalize(levels).min() == -1
    assert normalize(levels).max() == 1


def test_to_uint8_clips() -> None:
    assert to_uint8(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2)).flatten().tolist() == [0, 255]


def test_everything_off_only_normalises() -> None:
    images = random_images(4)
    expected = images.permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.equal(Augmentation()(images, torch.arange(4), seed=1), expected)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_an_image_does_not_depend_on_its_batch(order: list[int], size: int) -> None:
    images, draws = random_images(6), torch.arange(100, 106)
    together = ALL(images, draws, seed=3)
    chosen = order[:size]
    torch.testing.assert_close(ALL(images[chosen], draws[chosen], seed=3), together[chosen])


def test_seed_and_draw_change_the_result() -> None:
    images = random_images(1).expand(8, -1, -1, -1)
    draws = torch.arange(8)
    first = ALL(images, draws, seed=0)
    assert not torch.equal(first, ALL(images, draws, seed=1))
    assert len({image.numpy().tobytes() for image in first}) == 8


def test_shift_and_flip_are_crops_of_the_padded_image() -> None:
    shift = 2
    images = random_images(200)
    augmented = Augmentation(flip=True, shift=shift)(images, torch.arange(200), seed=0)
    seen = set()
    for image, result in zip(images.numpy(), to_uint8(augmented).numpy(), strict=True):
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        crops = {
            (y, x, flip): padded[y : y + 9, x : x + 7][:, :: -1 if flip else 1]
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
        }
        seen |= {key for key, crop in crops.items() if np.array_equal(crop, result)}
        assert any(np.array_equal(crop, result) for crop in crops.values())
    assert {key[0] for key in seen} == set(range(5))
    assert {key[1] for key in seen} == set(range(5))
    assert {key[2] for key in seen} == {False, True}


def test_rotation_keeps_distances_off_square() -> None:
    height, width = 33, 49
    images = torch.zeros(16, height, width, 1, dtype=torch.uint8)
    images[:, 14:19, 32:37] = 255  # a dot 10 pixels right of the centre
    levels = Augmentation(rotate=90)(images, torch.arange(16), seed=0)[:, 0] + 1
    ys, xs = torch.meshgrid(torch.arange(height) - 16.0, torch.arange(width) - 24.0, indexing="ij")
    mass = levels.sum((1, 2))
    y, x = (levels * ys).sum((1, 2)) / mass, (levels * xs).sum((1, 2)) / mass
    torch.testing.assert_close((x**2 + y**2).sqrt(), torch.full((16,), 10.0), atol=0.1, rtol=0)
    assert torch.atan2(y, x).abs().max() <= torch.pi / 2 + 0.02
    assert torch.atan2(y, x).std() > 0.3


def test_scale_stays_in_its_range() -> None:
    images = torch.zeros(64, 32, 32, 1, dtype=torch.uint8)
    images[:, 8:24, 8:24] = 255
    levels = (Augmentation(scale=0.25)(images, torch.arange(64), seed=0)[:, 0] + 1) / 2
    factors = levels.sum((1, 2)).sqrt() / 16
    assert factors.min() < 0.85
    assert factors.max() > 1.15
    assert factors.min() > 0.74
    assert factors.max() < 1.26


def test_constant_images_stay_constant() -> None:
    images = torch.full((8, 9, 7, 3), 200, dtype=torch.uint8)
    torch.testing.assert_close(ALL(images, torch.arange(8), seed=0), normalize(images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree() -> None:
    images, draws = random_images(32), torch.arange(32)
    there = ALL(images.cuda(), draws.cuda(), seed=0).cpu()
    torch.testing.assert_close(ALL(images, draws, seed=0), there, atol=1e-4, rtol=0)


def test_describe_is_what_was_set() -> None:
    assert Augmentation(shift=2).describe() == {"flip": False, "shift": 2, "rotate": 0.0, "scale": 0.0}


@pytest.mark.parametrize("setting", [{"shift": -1}, {"shift": 1.5}, {"rotate": 200}, {"scale": 1.0}])
def test_values_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"augmentation.{next(iter(setting))}"):
        Augmentation(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(flip=True, shift=2), Augmentation(True, 2, 9.0)])
def test_either_memory_format_holds_the_same_numbers(augmentation):
    images = torch.randint(0, 256, (5, 7, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = augmentation(images, torch.arange(5), 3)
    last = augmentation(images, torch.arange(5), 3, torch.channels_last)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    torch.testing.assert_close(last, plain)
