import numpy as np
from PIL import Image

from pipelines.inputs.training_images import training_images


def test_pictures_of_more_than_8_bits_have_one_range(tmp_path, capsys):
    """The set's, as those of a folder have: a dark picture stays dark, and what has 8 bits stays as it is."""
    bright = np.array([[0, 1000], [2000, 4000]], np.uint16)
    dark, narrow = bright // 100, np.array([[0, 50], [100, 250]], np.uint8)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    found = training_images([Image.fromarray(bright), tmp_path / "dark.png", Image.fromarray(narrow)])
    expected = [np.rint(bright / 4095 * 255), np.rint(dark / 4095 * 255), narrow]  # 12 bits hold all values
    assert np.array_equal(found.images[..., 0], np.stack(expected))
    said = " ".join(capsys.readouterr().out.split())
    assert "values from 0 to 4000, of which 0 becomes black and 4095 white" in said
