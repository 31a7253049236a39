import numpy as np
import pytest
from PIL import Image

from pipelines.tracking.image_grid import grid, save_image, strip_of_pairs


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_every_image_stands_in_its_place(channels, mode):
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, channels), dtype=np.uint8)
    picture = grid(images, columns=3, gap=1)
    assert picture.mode == mode
    zoom = picture.width // (3 * 7 + 1)
    assert picture.size == (22 * zoom, 11 * zoom)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)[::zoom, ::zoom]
    for index, image in enumerate(images):
        top, left = 1 + 5 * (index // 3), 1 + 7 * (index % 3)
        assert np.array_equal(pixels[top : top + 4, left : left + 6], image)
    assert (pixels[6:, 15:] == 255).all()


def test_images_stand_above_their_reconstructions():
    images = np.full((20, 2, 2, 1), 10, np.uint8)
    strip = np.asarray(strip_of_pairs(images, images + 50))
    zoom = strip.shape[1] // (16 * 4 + 2)
    column = strip[::zoom, ::zoom][:, 2]
    assert [value for value in column if value != 255] == [10, 10, 60, 60]


def test_images_are_written_as_png(tmp_path):
    save_image(Image.new("L", (3, 3), 7), tmp_path / "a" / "b.png")
    assert np.asarray(Image.open(tmp_path / "a" / "b.png")).tolist() == [[7] * 3] * 3
