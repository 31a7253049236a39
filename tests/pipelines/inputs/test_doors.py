"""What public functions take and refuse: every form of an argument means the same, everything else says one line."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.inputs.images import images_of
from pipelines.inputs.labels import as_trained, class_numbers, labels_of
from pipelines.inputs.numbers import real_number, whole_number
from stage1_vqvae.codes import CodeLayout, codes_of
from stage1_vqvae.data import Preprocessing

RGB = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)  # [B, H, W, C]
EXPECTED = torch.from_numpy(RGB).permute(0, 3, 1, 2).float() / 255
FIRST = torch.from_numpy(RGB).permute(0, 3, 1, 2)

RIGHT = {
    "uint8, channels last": RGB,
    "uint8, channels first": FIRST.numpy(),
    "a uint8 tensor": FIRST,
    "floats, channels last": RGB / 255,
    "float32, channels first": EXPECTED,
    "float16 of a tensor within rounding": EXPECTED.double(),
    "floats a little outside": (EXPECTED * 1.0005).clamp(max=1.0005),
    "PIL images": [Image.fromarray(one) for one in RGB],
    "arrays in a list": list(RGB),
    "tensors in a tuple": tuple(FIRST),
    "forms mixed": [Image.fromarray(RGB[0]), RGB[1] / 255],
    "not contiguous": np.asfortranarray(RGB),
}

WRONG = {
    "int64 of 0 to 255": (RGB.astype(np.int64), "uint8 of 0 to 255 or floats"),
    "floats of 0 to 255": (RGB.astype(np.float32), r"lie in \[.*, 24\d\]: convert, e.g. images / 255"),
    "floats in [-1, 1]": (EXPECTED * 2 - 1, r"e.g. \(images \+ 1\) / 2"),
    "NaN": (EXPECTED.clone().fill_(torch.nan), "NaN or infinite"),
    "infinite": (EXPECTED.clone().fill_(torch.inf), "NaN or infinite"),
    "booleans": (RGB > 5, "uint8 of 0 to 255"),
    "another size": (RGB[:, :3], r"\[B, 3, 4, 6\] or \[B, 4, 6, 3\] expected, got \[2, 3, 6, 3\]"),
    "other channels": (RGB[..., :2], "expected, got"),
    "none": (RGB[:0], "at least one expected"),
    "an empty list": ([], "at least one expected"),
    "None": (None, "tensor, array, PIL image, path"),
    "a number": (3, "tensor, array, PIL image, path"),
    "numbers": ([1, 2], "tensor, array, PIL image, path"),
    "a path that is not there": ("no/such.png", "no/such.png is no readable image"),
    "a picture of another size": (Image.new("RGB", (9, 9)), r"4×6 pixels expected, a PIL image has 9×9: pass resize"),
    "text that is no path": (b"x", "tensor, array, PIL image, path"),
}


@pytest.mark.parametrize("form", RIGHT)
def test_all_forms_of_images_mean_the_same(form):
    found = images_of(RIGHT[form], Preprocessing(4, 6, 3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, EXPECTED, atol=6e-4, rtol=0)


@pytest.mark.parametrize("form", WRONG)
def test_what_is_no_image_is_refused_in_one_line(form):
    images, message = WRONG[form]
    with pytest.raises(ValueError, match=message) as error:
        images_of(images, Preprocessing(4, 6, 3))
    assert str(error.value).startswith("images: ")
    assert "\n" not in str(error.value)


def test_single_images_and_grey_ones_without_channels(tmp_path):
    Image.fromarray(RGB[0]).save(tmp_path / "one.png")
    for one in (RGB[0], FIRST[0], Image.fromarray(RGB[0]), tmp_path / "one.png", str(tmp_path / "one.png")):
        assert torch.equal(images_of(one, Preprocessing(4, 6, 3)), EXPECTED[:1])
    grey = RGB[..., 0]
    for form in (grey, grey[..., None], grey[:, None], [Image.fromarray(one) for one in grey], grey / 255):
        torch.testing.assert_close(images_of(form, Preprocessing(4, 6, 1)), torch.from_numpy(grey)[:, None] / 255)
    assert images_of(grey[0], Preprocessing(4, 6, 1)).shape == (1, 1, 4, 6)


def test_files_are_read_as_those_of_the_training(tmp_path):
    """By the training's range of values, upright, and in its formats alone."""
    values = np.array([[0, 4095, 1365], [819, 2730, 273]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "wide.png")
    form = Preprocessing(2, 3, 1, (0.0, 4095.0))
    expected = torch.tensor([[0, 255, 85], [51, 170, 17]]) / 255
    for one in (tmp_path / "wide.png", Image.fromarray(values)):
        torch.testing.assert_close(images_of(one, form)[0, 0], expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(RGB[0]).save(tmp_path / "turned.png", exif=exif)
    turned = torch.from_numpy(np.rot90(RGB[0], -1).copy()).permute(2, 0, 1) / 255
    for one in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        torch.testing.assert_close(images_of(one, Preprocessing(6, 4, 3))[0], turned)
        with pytest.raises(ValueError, match=r"4×6 pixels expected, .* has 6×4: pass resize=True"):
            images_of(one, Preprocessing(4, 6, 3))
    Image.fromarray(RGB[0]).save(tmp_path / "one.pdf")
    with pytest.raises(ValueError, match=r"images: .*one\.pdf is no readable image \(cannot identify its format\)"):
        images_of(tmp_path / "one.pdf", Preprocessing(4, 6, 3))


def test_channels_that_may_be_first_or_last_are_asked_about():
    cube = np.random.default_rng(1).integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="channels first or last: give"):
        images_of(cube, Preprocessing(3, 3, 3))
    alike = np.full((2, 3, 3, 3), 7, np.uint8)
    assert images_of(alike, Preprocessing(3, 3, 3)).shape == (2, 3, 3, 3)


def test_other_sizes_are_fitted_if_asked():
    large = np.repeat(np.repeat(RGB, 2, 1), 2, 2)
    assert images_of(large, Preprocessing(4, 6, 3), resize=True).shape == (2, 3, 4, 6)
    pictures = [Image.fromarray(one) for one in large]
    torch.testing.assert_close(
        images_of(pictures, Preprocessing(4, 6, 3), True), images_of(large, Preprocessing(4, 6, 3), True)
    )


GRID = CodeLayout(((2, 3),), (300,))
CODES = torch.arange(12).view(2, 6) * 20
TWO = CodeLayout(((1, 2), (2, 2)), (4, 300))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_codes_of_any_integer_type_flat_or_as_a_grid(dtype):
    codes = CODES.to(dtype)
    for form in (codes, codes.numpy(), codes.view(2, 2, 3) if dtype != torch.uint16 else codes, codes.tolist()):
        found = codes_of(form, GRID)
        assert found.dtype == torch.int64
        assert torch.equal(found, CODES)
    assert torch.equal(codes_of(codes.numpy()[0], GRID), CODES[:1])
    assert torch.equal(codes_of(codes.numpy()[0].reshape(2, 3), GRID), CODES[:1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (CODES.float(), r"integers \[B, 6\] expected, got torch.float32"),
        (CODES > 3, "integers"),
        (CODES[:, :5], r"expected, got shape \[2, 5\]"),
        (CODES[:0], "at least one"),
        (None, "integers"),
        ("abc", "integers"),
        ([[1], [2, 3]], "integers"),
        (CODES + 300, "codes of grid"),
        (CODES - 1, "codes of grid"),
    ],
)
def test_what_is_no_code_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        codes_of(wrong, GRID)


def test_codes_of_several_grids_are_flat():
    assert codes_of([[3, 0, 299, 0, 0, 7]], TWO).shape == (1, 6)
    with pytest.raises(ValueError, match=r"integers \[B, 6\] expected, got shape \[2, 2\]"):
        codes_of([[1, 2], [3, 4]], TWO)


ANIMALS = ("cat", "dog", "10")
TWELVE = tuple(str(number) for number in range(1, 13))


@pytest.mark.parametrize(
    ("label", "names", "expected"),
    [
        (1, ANIMALS, [1]),
        ("dog", ANIMALS, [1]),
        ("10", ANIMALS, [2]),
        ([0, "dog"], ANIMALS, [0, 1]),
        (np.int64(2), ANIMALS, [2]),
        (torch.tensor(2), ANIMALS, [2]),
        (np.array([0, 1]), ANIMALS, [0, 1]),
        (torch.tensor([1, -1], dtype=torch.int32), ANIMALS, [1, -1]),
        (-1, ANIMALS, [-1]),
        (1, TWELVE, [0]),  # the class called 1, not class number 1
        (12, TWELVE, [11]),
        (1, ("0", "2", "1", "other"), [2]),  # a name before a number
        ([10, 1], ANIMALS, [2, 1]),
        (-1, ("-2", "-1", "0"), [1]),
        ("12", TWELVE, [11]),
        (torch.tensor([1]), TWELVE, [1]),  # what Samples.labels holds
        (-1, (), [-1]),
    ],
)
def test_labels_by_number_name_list_array_and_tensor(label, names, expected):
    assert class_numbers(label, names).tolist() == expected


@pytest.mark.parametrize(
    ("label", "names", "message"),
    [
        (3, ANIMALS, "label=3: classes are 0 to 2 or by name cat, dog, 10"),
        (-2, ANIMALS, "label=-2: classes are"),
        ("bird", ANIMALS, "label=bird: classes are"),
        (True, ANIMALS, "label=True: classes are"),
        (1.0, ANIMALS, "label=1.0: classes are"),
        (None, ANIMALS, "label=None: classes are"),
        ([], ANIMALS, "one class at least"),
        (torch.tensor([0.5]), ANIMALS, "integers of shape"),
        (torch.tensor([[1]]), ANIMALS, "integers of shape"),
        (torch.tensor([3]), ANIMALS, "label=3: classes are"),
        (np.array([-7]), ANIMALS, "label=-7: classes are"),
        (0, TWELVE, "label=0: classes are 1, 2, 3"),
        (13, TWELVE, "label=13: classes are 1, 2, 3"),
        (10, tuple("0123456789"), "label=10: classes are 0 to 9$"),
        (0, (), "trained without labels"),
    ],
)
def test_what_is_no_label_is_refused(label, names, message):
    with pytest.raises(ValueError, match=message):
        class_numbers(label, names)


def test_one_label_for_all_or_one_for_each():
    assert labels_of(None, ANIMALS, 3).tolist() == [-1] * 3
    assert labels_of("dog", ANIMALS, 3).tolist() == [1] * 3
    assert labels_of([0, 1, -1], ANIMALS, 3).tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match="one, or one for each of 3, expected, got 2"):
        labels_of([0, 1], ANIMALS, 3)


@given(st.integers(-(2**70), 2**70), st.sampled_from([int, np.int64, torch.tensor, np.array]))
def test_whole_numbers_of_any_library(number, kind):
    if kind is int or -(2**63) <= number < 2**63:
        assert whole_number(kind(number), "n") == number


@pytest.mark.parametrize("wrong", [True, 2.0, 1.5, "3", None, [1], np.bool_(True), torch.tensor(True), torch.ones(2)])
def test_what_is_no_whole_number_is_refused(wrong):
    with pytest.raises(ValueError, match="n is a whole number, got"):
        whole_number(wrong, "n")


def test_ranges_are_named():
    for value, least, most, message in ((0, 1, None, "at least 1, got 0"), (9, 0, 5, "from 0 to 5, got 9")):
        with pytest.raises(ValueError, match=f"n is {message}"):
            whole_number(value, "n", least, most)
    with pytest.raises(ValueError, match=r"seed is from 0 to 2\^64 - 1, got -1"):
        whole_number(-1, "seed", 0, 2**64 - 1)


def test_real_numbers():
    assert real_number(np.float32(0.5), "t") == 0.5
    assert real_number(3, "t") == 3.0
    for wrong in (True, "x", None, float("nan"), float("inf"), [1]):
        with pytest.raises(ValueError, match="t is a number, got"):
            real_number(wrong, "t")


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), n=st.integers(1, 80))
def test_classes_have_the_shares_of_the_training_images(counts, n):
    """At every length, to within two images, and none that there were no images of."""
    labels = as_trained(n, counts)
    drawn = np.eye(len(counts))[labels].cumsum(0)
    expected = np.arange(1, n + 1)[:, None] * np.array(counts) / sum(counts)
    assert np.abs(drawn - expected).max() < 2
    assert not set(labels) & {number for number, count in enumerate(counts) if count == 0}
