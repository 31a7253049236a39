import importlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.generator import Generator


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.load(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three digit-like images of another size and mode than the run's, and one at a depth."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "below/c.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(folder / name)
    for name in ("notes.txt", "notes.pdf", "._a.png", "broken.png"):  # as cameras and people leave them
        (folder / name).write_text("no image")
    return folder


@pytest.fixture
def complete(monkeypatch, capfd, tmp_path, tiny_run, pictures):
    """The command: what it says, an error's one line included."""

    def run(*changes):
        words = {"model": tiny_run, "images": pictures, "n": 2, "output": "made"}
        words |= dict(change.split("=", 1) for change in changes)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["complete", *(f"{key}={value}" for key, value in words.items())])
        try:
            importlib.import_module("pipelines.complete").main()
        except SystemExit as stopped:
            said = str(stopped.code)
            assert len(said.splitlines()) == 1
            return said
        return capfd.readouterr().out

    return run


def test_completions_of_a_folder(complete, tmp_path, generator):
    assert "2 of each of 3 images" in complete("keep=left", "label=[3,4]")
    made = np.load(tmp_path / "made" / "images.npz")
    assert made["images"].shape == (6, 28, 28, 1)
    assert made["originals"].shape == (3, 28, 28, 1)
    assert made["labels"].tolist() == [3, 4] * 3
    assert made["keep_mask"].reshape(4, 4).tolist() == [[True, True, False, False]] * 4
    kept = generator.encode(torch.from_numpy(made["originals"]).permute(0, 3, 1, 2) / 255).numpy().repeat(2, 0)
    assert np.array_equal(made["codes"][:, made["keep_mask"]], kept[:, made["keep_mask"]])
    assert not np.array_equal(made["codes"][::2], made["codes"][1::2])


def test_images_are_read_as_training_images_are(complete, tmp_path):
    said = complete()
    assert "1 of 4 images are left out; the first: " in said
    assert "broken.png is no readable image" in said
    assert "2 of each of 3 images" in said
    Image.new("1", (2**14, 2**13)).save(tmp_path / "bomb.png")
    assert "16384×8192 pixels, at most 67,108,864 are decoded" in complete("images=bomb.png", "output=other")


def test_the_picture_has_original_masked_and_completions_in_a_row(complete, tmp_path):
    complete("keep=box", "box=[0,0,14,28]")
    picture = Image.open(tmp_path / "made" / "grid.png")
    zoom = picture.width // (4 * 30 + 2)
    assert picture.size == ((4 * 30 + 2) * zoom, (3 * 30 + 2) * zoom)
    pixels = np.asarray(picture)[::zoom, ::zoom]
    made = np.load(tmp_path / "made" / "images.npz")
    for row in range(3):
        shown = [pixels[2 + 30 * row :, 2 + 30 * column :][:28, :28] for column in range(4)]
        original = made["originals"][row, ..., 0]
        assert np.array_equal(shown[0], original)
        assert np.array_equal(shown[1][:14], original[:14])
        assert (shown[1][14:] == 128).all()
        assert np.array_equal(shown[2], made["images"][2 * row, ..., 0])
        assert np.array_equal(shown[3], made["images"][2 * row + 1, ..., 0])


def test_everything_kept_is_the_decoded_image(complete, tmp_path, generator):
    Image.new("L", (10, 10), 255).save(tmp_path / "white.png")
    complete(f"keep={tmp_path / 'white.png'}", "n=1")
    made = np.load(tmp_path / "made" / "images.npz")
    images = torch.from_numpy(made["originals"]).permute(0, 3, 1, 2) / 255
    decoded = generator.decode(generator.encode(images)).permute(0, 2, 3, 1).numpy() * 255
    np.testing.assert_allclose(made["images"], decoded, atol=0.51)


def test_a_file_a_seed_and_candidates(complete, tmp_path, pictures):
    def codes(output, *words):
        complete(f"images={pictures / 'a.png'}", "keep=bottom", "n=3", f"output={output}", *words)
        return np.load(tmp_path / output / "images.npz")["codes"]

    assert np.array_equal(codes("one"), codes("again"))
    assert not np.array_equal(codes("one"), codes("other", "seed=1"))
    many = codes("many", "candidates=4")
    assert np.array_equal(many[:, 8:], codes("one")[:, 8:])


def test_what_is_done_is_not_done_again_nor_under_another_name(complete, tmp_path):
    complete()
    before = (tmp_path / "made" / "images.npz").stat().st_mtime_ns
    assert "already drawn" in complete()
    assert (tmp_path / "made" / "images.npz").stat().st_mtime_ns == before
    assert "holds a set of completions of other settings (keep: top, now left" in complete("keep=left")


def test_a_folder_is_named_after_what_is_asked_for(complete, tiny_run, tmp_path, pictures):
    shown = complete("output=null", "keep=box", "box=[0,0,14,28]", "label=3", "temperature=0.5", "candidates=2")
    name = f"{pictures.name}_box-0-0-14-28_n2_seed0_label3_candidates2_temperature0.5"
    assert str(tiny_run / "completions" / name / "grid.png") in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["images=empty"], "images=empty: an image's file or a folder of images expected, there is none"),
        (["images=damaged"], "images=damaged: none of 1 images can be read; the first: damaged/a.png is no readable"),
        (["images=nowhere"], "images=nowhere: an image's file or a folder of images expected"),
        ([f"images={__file__}"], "is no readable image"),
        (["keep=middle"], "keep=middle: top, bottom, left, right, box, or a mask's file expected"),
        (["keep=box"], "keep=box goes with box=[top,left,height,width]"),
        (["keep=box", "box=[0,0,40,5]"], "box is [top,left,height,width] inside of 28×28 pixels, got [0, 0, 40, 5]"),
        (["keep=box", "box=[8,8,5,5]"], "keep=box keeps no whole code, which is 8×8 pixels: keep more"),
        (["candidates=0"], "candidates is at least 1, got 0"),
        (["candidates=two"], "candidates: int or null expected, got 'two'"),
        (["seed=-1"], "seed is from 0 to 2^64 - 1, got -1"),
        (["n=0"], "n is at least 1, got 0"),
        (["label=12"], "label=12: classes are 0 to 9"),
        (["top_p=2"], "top_p is in (0, 1]"),
        (["model=nowhere"], "holds no finished tokenizer"),
        (["keeep=top"], "keeep"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(complete, tmp_path, changes, message):
    for name in ("empty/a.txt", "damaged/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no image")
    assert message in complete(*changes)
    assert not (tmp_path / "made").exists()


def test_generator_completes(generator):
    samples = generator.sample(6, seed=1)
    keep = torch.zeros(6, generator.layout.length, dtype=torch.bool)
    keep[:, ::3] = True
    drawn = generator.complete(samples.codes, keep, samples.labels, seed=2, temperature=1.5)
    assert torch.equal(drawn.codes[keep], samples.codes[keep])
    assert not torch.equal(drawn.codes, samples.codes)
    assert torch.equal(drawn.labels, samples.labels)
    torch.testing.assert_close(drawn.images, generator.decode(drawn.codes))
    assert generator.complete(samples.codes, keep[0]).labels.tolist() == [-1] * 6
    by_pixels = np.arange(28)[None].repeat(28, 0) < 14
    for left in (by_pixels, torch.arange(16) % 4 < 2):
        assert generator.complete(samples.codes, left, seed=3) == generator.complete(samples.codes, "left", seed=3)
    nothing = torch.zeros(generator.layout.length, dtype=torch.bool)
    assert torch.equal(generator.complete(samples.codes, nothing, samples.labels, seed=1).codes, samples.codes)


def test_pixels_that_are_kept_are_the_originals(complete, tmp_path):
    complete("keep=left", "keep_pixels=true")
    made = np.load(tmp_path / "made" / "images.npz")
    images, originals = made["images"], made["originals"].repeat(2, 0)
    assert np.array_equal(images[:, :, :14], originals[:, :, :14])
    complete("keep=left", "output=other")
    plain = np.load(tmp_path / "other" / "images.npz")
    assert np.array_equal(plain["codes"], made["codes"])
    assert np.array_equal(plain["images"][:, :, 14:], images[:, :, 14:])
    assert not np.array_equal(plain["images"], images)
