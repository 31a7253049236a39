import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.masks import code_mask, kept_pixels, pixel_mask
from stage1_vqvae.codes import CodeLayout


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("top", ["11111", "00000", "00000"]),
        ("bottom", ["00000", "00000", "11111"]),
        ("left", ["11000", "11000", "11000"]),
        ("right", ["00011", "00011", "00011"]),
    ],
)
def test_halves(keep, expected):
    mask = pixel_mask(keep, None, (3, 5))
    assert ["".join(str(int(pixel)) for pixel in row) for row in mask] == expected


def test_box_is_top_left_height_width():
    mask = pixel_mask("box", [1, 2, 2, 3], (4, 6))
    assert mask.nonzero().tolist() == [[row, column] for row in (1, 2) for column in (2, 3, 4)]
    assert pixel_mask("box", [0, 0, 4, 6], (4, 6)).all()


def test_white_of_a_file_is_kept(tmp_path):
    levels = np.array([[0, 255, 255], [127, 128, 0]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "mask.png")
    assert pixel_mask(str(tmp_path / "mask.png"), None, (2, 3)).tolist() == [[False, True, True], [False, True, False]]
    larger = Image.fromarray(levels).resize((30, 20), Image.Resampling.NEAREST)
    larger.convert("RGB").save(tmp_path / "larger.png")
    mask = pixel_mask(str(tmp_path / "larger.png"), None, (20, 30))
    assert torch.equal(mask, torch.from_numpy(np.asarray(larger) >= 128))


@pytest.mark.parametrize(
    ("keep", "box", "message"),
    [
        ("box", None, "keep=box goes with box="),
        ("top", [0, 0, 1, 1], "keep=box goes with box="),
        ("box", [0, 0, 5, 1], r"box is \[top,left,height,width\] inside of 4×6 pixels, got \[0, 0, 5, 1\]"),
        ("box", [0, 6, 1, 1], "inside of 4×6"),
        ("box", [-1, 0, 1, 1], "inside of 4×6"),
        ("box", [0, 0, 0, 1], "inside of 4×6"),
        ("box", [0, 0, 1], "inside of 4×6"),
        ("box", [0, 0, 1.5, 1], "inside of 4×6"),
        ("nowhere.png", None, "keep=nowhere.png: top, bottom, left, right, box, or a mask's file"),
        (__file__, None, "is no readable image"),
    ],
)
def test_mistakes_are_named(keep, box, message):
    with pytest.raises(ValueError, match=message):
        pixel_mask(keep, box, (4, 6))


def brute_force(pixels, layout, padding):
    """Every code's cell, pixel by pixel; what lies outside repeats the border."""
    height, width = pixels.shape
    kept = []
    for rows, columns in layout.grids:
        tall, wide = (height + 2 * padding) // rows, (width + 2 * padding) // columns
        for row in range(rows):
            for column in range(columns):
                cell = [
                    pixels[min(max(y - padding, 0), height - 1), min(max(x - padding, 0), width - 1)]
                    for y in range(row * tall, (row + 1) * tall)
                    for x in range(column * wide, (column + 1) * wide)
                ]
                kept.append(all(cell))
    return kept


@settings(max_examples=50)
@given(seed=st.integers(0, 999), padding=st.sampled_from([0, 1, 2]), holes=st.integers(0, 6))
def test_a_code_is_kept_if_all_its_pixels_are(seed, padding, holes):
    layout = CodeLayout(((1, 2), (2, 4), (2, 4)), (3, 5, 5))
    shape = (8 - 2 * padding, 16 - 2 * padding)
    pixels = np.ones(shape, bool)
    pixels.flat[np.random.default_rng(seed).integers(0, pixels.size, holes)] = False
    kept = code_mask(torch.from_numpy(pixels), layout, padding)
    assert kept.tolist() == brute_force(pixels, layout, padding)
    back = kept_pixels(kept, layout, shape, padding)
    assert not (back & ~torch.from_numpy(pixels)).any()
    assert torch.equal(code_mask(back, layout, padding)[:2], kept[:2])  # the coarsest grid decides


def test_pixels_are_those_of_the_kept_codes():
    layout = CodeLayout(((2, 2),), (3,))
    back = kept_pixels(torch.tensor([True, False, False, True]), layout, (6, 6), padding=1)
    assert torch.equal(back, torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool())
