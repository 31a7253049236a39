from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from stage1_vqvae.data.preprocessing import Preprocessing

RGB = Preprocessing(8, 8, 3)
GREY = Preprocessing(8, 8, 1)
ORANGE = (204, 102, 51)  # in the palette that PIL converts to by default


def reloaded(image: Image.Image, form: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_colour_modes_keep_their_colour(mode: str) -> None:
    image = Image.new("RGB", (8, 8), ORANGE)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert converted is not None
    else:
        between = {"RGBa": "RGBA", "PA": "P"}.get(mode, mode)
        converted = image.convert(between).convert(mode)
    np.testing.assert_allclose(RGB(converted)[0, 0].astype(int), ORANGE, atol=4)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "1", "I;16", "I;16B", "I", "F"])
def test_grey_modes_keep_their_level(mode: str) -> None:
    level = 255 if mode == "1" else 100
    images = {
        "I;16": Image.fromarray(np.full((8, 8), level * 257, dtype=np.uint16)),
        "I;16B": Image.new("I;16B", (8, 8), level * 257),
        "I": Image.fromarray(np.full((8, 8), level * 257, dtype=np.int32)),
        "F": Image.fromarray(np.full((8, 8), level / 255, dtype=np.float32)),
        "La": Image.new("LA", (8, 8), (level, 255)).convert("La"),
        "LA": Image.new("LA", (8, 8), (level, 255)),
    }
    image = images.get(mode) or Image.new(mode, (8, 8), level)
    assert image.mode == mode
    assert (GREY(image) == level).all()
    assert (RGB(image) == level).all()


def test_sixteen_bit_files_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    for form in ("PNG", "TIFF"):
        decoded = GREY(reloaded(Image.fromarray(ramp), form))[..., 0]
        np.testing.assert_array_equal(decoded, np.rint(ramp / 257).astype(np.uint8))


def test_floats_above_one_are_eight_bit_levels() -> None:
    assert (GREY(Image.fromarray(np.full((8, 8), 200.0, dtype=np.float32))) == 200).all()


@pytest.mark.parametrize("value", [-1.0, 1000.0, float("nan")])
def test_pixels_without_a_known_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"float32 values lie in|values that are no numbers"):
        GREY(Image.fromarray(np.full((8, 8), value, dtype=np.float32)))


def test_transparent_colour_becomes_white_or_stays() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert (RGB(image) == 255).all()
    assert (GREY(half) == 127).all()
    assert Preprocessing(8, 8, 4)(half)[0, 0].tolist() == [0, 0, 0, 128]
    assert Preprocessing(8, 8, 2)(half)[0, 0].tolist() == [0, 128]


def test_transparent_palette_entries_become_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 0, 0, 255])
    image = reloaded(palette, "PNG", transparency=1)
    assert image.mode == "P"
    assert (RGB(image) == 255).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_number_of_channels(channels: int) -> None:
    result = Preprocessing(4, 6, channels)(Image.new("RGB", (20, 10), ORANGE))
    assert result.shape == (4, 6, channels)
    assert result.dtype == np.uint8


def test_exif_orientation_is_applied() -> None:
    upright = np.zeros((8, 8, 3), dtype=np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees to the left
    stored = Image.fromarray(np.rot90(upright).copy())
    np.testing.assert_array_equal(RGB(reloaded(stored, "PNG", exif=exif)), upright)


def test_the_centre_is_cropped() -> None:
    bars = np.zeros((10, 30, 3), dtype=np.uint8)
    bars[:, 10:20] = 255
    assert (Preprocessing(10, 10, 3)(Image.fromarray(bars)) == 255).all()
    tall = bars.transpose(1, 0, 2).copy()
    assert (Preprocessing(10, 10, 3)(Image.fromarray(tall)) == 255).all()


def test_shrinking_averages() -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert abs(GREY(Image.fromarray(checks)).astype(int) - 127).max() <= 2


def test_images_of_the_right_size_are_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(RGB(Image.fromarray(pixels)), pixels)


@given(*[st.integers(1, 40)] * 4)
def test_any_size_to_any_size(width: int, height: int, target_width: int, target_height: int) -> None:
    result = Preprocessing(target_height, target_width, 3)(Image.new("RGB", (width, height), ORANGE))
    assert result.shape == (target_height, target_width, 3)
    assert (result == ORANGE).all()


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "two.gif") as image:
        assert RGB(image)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("size", "channels", "key"), [((0, 8), 3, "image_size"), ((8, 8), 5, "channels")])
def test_impossible_settings_are_refused(size: tuple[int, int], channels: int, key: str) -> None:
    with pytest.raises(ValueError, match=f"data.{key}"):
        Preprocessing(*size, channels)


def test_equal_descriptions_mean_equal_settings() -> None:
    forms = [Preprocessing(8, 8, 3), Preprocessing(8, 8, 1), Preprocessing(8, 9, 3), Preprocessing(9, 8, 3)]
    assert len({str(form.describe()) for form in forms}) == len(forms)


@pytest.mark.parametrize("draft", [False, True])
def test_a_description_says_how_jpegs_are_decoded(draft: bool) -> None:
    form = Preprocessing(4, 6, 3, (0.0, 4095.0), draft)
    assert ("jpeg" in form.describe()) == draft  # as version 0.1.0 described what it did, without
