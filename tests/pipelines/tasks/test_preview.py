import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.cli import pictures
from pipelines.tasks.preview import in_turn, preview
from stage1_vqvae.data.dataset import ImageSplit, LabelledImages
from tests.support.tiny import compose


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of two classes, with validation images; a validation image is a training image made darker."""
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = np.kron(rng.integers(0, 250, (6, 6, 3), dtype=np.uint8), np.ones((6, 6, 1), np.uint8))
        path = (
            tmp_path / "own" / ("train" if number < 9 else "validation") / ("cat", "dog")[number % 2] / f"{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    darker = np.asarray(Image.open(tmp_path / "own/train/cat/0.png")) * 0.98
    Image.fromarray(darker.astype(np.uint8)).save(tmp_path / "own/validation/cat/10.png")
    (tmp_path / "own/notes.txt").write_text("no image")
    return tmp_path / "own"


def look(folder, output, *overrides):
    words = [f"data.files={folder}", f"data.cache={output}/cache", "data.image_size=[48,48]", f"output={output}"]
    preview(compose("data=folder", *words, *overrides, command="preview"))


def test_what_is_found_is_said_and_shown(folder, tmp_path, capsys):
    look(folder, tmp_path / "seen", "n=8", "data.augmentation.flip=true")
    shown = capsys.readouterr().out
    assert "train              9  cat: 5, dog: 4" in shown
    for line in (
        "formats      PNG (12)",
        "channels     RGB (12)",
        "sizes        36×36 (12)",
        "enlarged     12 images are smaller than 48×48",
        "nearly equal 0 of 9 training images to an earlier one; 1 of 3 validation images to a training image",
    ):
        assert line in shown
    page = (tmp_path / "seen/preview.html").read_text()
    for text in ("own", "flip=True", "36×36", "Nearly equal images", "<td>cat</td>", "quarantine.csv"):
        assert text in page
    assert page.count("<img ") == 3
    assert Image.open(tmp_path / "seen/images.png").width >= 8 * 48
    both = np.asarray(Image.open(tmp_path / "seen/nearly_equal.png").convert("L"))
    assert both.shape[0] > both.shape[1]  # one pair: one above the other


def test_an_earlier_look_leaves_nothing_behind(folder, tmp_path):
    look(folder, tmp_path / "seen")
    shutil.rmtree(folder / "validation")
    look(folder, tmp_path / "seen", "data.validation=0.2")
    assert not (tmp_path / "seen/nearly_equal.png").exists()
    assert "Nearly equal images" not in (tmp_path / "seen/preview.html").read_text()


def test_the_classes_are_shown_in_turn():
    labels = np.array([0, 0, 0, 2, 2, -1])
    images = LabelledImages(reader=None, labels=labels, digests=np.zeros((6, 32), np.uint8))
    split = ImageSplit(images, np.arange(6), {})
    assert in_turn(split, 3, 5).tolist() == [5, 0, 3, 1, 4]
    assert in_turn(split, 3, 50).tolist() == [5, 0, 3, 1, 4, 2]


def test_a_picture_in_a_terminal_has_two_pixels_a_character(tmp_path, monkeypatch):
    from rich.console import Console

    pixels = torch.arange(4 * 2 * 3).reshape(4, 2, 3).to(torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with open(tmp_path / "shown", "w") as file:
        terminal = Console(file=file, force_terminal=True, color_system="truecolor", width=80)
        monkeypatch.setattr(pictures, "console", terminal)
        pictures.show_picture(tmp_path / "x.png")
    lines = (tmp_path / "shown").read_text().splitlines()
    assert [line.count("▀") for line in lines] == [2, 2]
    assert "38;2;0;1;2" in lines[0]
    assert "48;2;6;7;8" in lines[0]


def test_no_picture_is_printed_into_a_file(tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    pictures.show_picture(tmp_path / "x.png")
    assert capsys.readouterr().out == ""


def test_a_wrong_number_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="n is at least 1, got 0"):
        look(folder, tmp_path / "seen", "n=0")
    assert not (tmp_path / "seen").exists()
