from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stage1_vqvae.data.decoding import FORMATS, SUFFIXES, Decoder, Trait, UnreadableImage, decode, frames_in, read_file
from stage1_vqvae.data.originals import Files, Frames, Original, Pixels
from stage1_vqvae.data.preprocessing import Preprocessing

GREY = Preprocessing(4, 4, 1)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png16(colour: int, values: list[int]) -> bytes:
    """A PNG of 4×4 equal pixels of 16 bits a channel, written by hand: PIL does not."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0))
    rows = (b"\0" + struct.pack(f">{len(values)}H", *values) * 4) * 4
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def frames(form: str) -> bytes:
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    return saved(first, form, save_all=True, append_images=[second])


@pytest.mark.parametrize(
    ("content", "traits"),
    [
        (saved(Image.new("RGB", (4, 4)), "PNG"), set()),
        (saved(Image.new("RGB", (4, 4)), "JPEG"), set()),
        (png16(0, [4095]), {Trait.WIDE}),
        (png16(2, [4095, 0, 0]), {Trait.WIDE}),
        (png16(4, [4095, 65535]), {Trait.WIDE}),
        (png16(6, [4095, 0, 0, 65535]), {Trait.WIDE}),
        (saved(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"), {Trait.WIDE}),
        (frames("TIFF"), {Trait.FRAMES}),
        (frames("GIF"), {Trait.FRAMES}),
        (frames("WEBP"), {Trait.FRAMES}),
        (frames("PNG"), {Trait.FRAMES}),
        (frames("MPO"), set()),
        (np.zeros((4, 4), dtype=np.uint8), set()),
        (np.zeros((4, 4, 3), dtype=np.uint16), {Trait.WIDE}),
    ],
)
def test_what_an_owner_should_know(content: bytes, traits: set[Trait]) -> None:
    assert decode(Original(content, "here"), GREY).traits == traits


def test_one_range_of_values_for_a_set() -> None:
    form = Preprocessing(4, 4, 1, (0.0, 4095.0))
    assert decode(Original(png16(0, [4095]), ""), form).pixels.max() == 255
    assert decode(Original(png16(0, [2048]), ""), form).pixels.tolist() == np.full((4, 4, 1), 128).tolist()
    blank = Image.fromarray(np.zeros((4, 4), dtype=np.float32))
    assert decode(Original(saved(blank, "TIFF"), ""), Preprocessing(4, 4, 1, (0.0, 1.0))).pixels.max() == 0
    beyond = np.array([[-50.0, 0.0], [50.0, 900.0]])
    clipped = decode(Original(beyond, ""), Preprocessing(2, 2, 1, (0.0, 100.0))).pixels[..., 0]
    assert clipped.tolist() == [[0, 0], [127, 255]]
    grey = saved(Image.new("L", (4, 4), 7), "PNG")  # levels of 8 bits are what they are
    assert decode(Original(grey, ""), form).pixels.max() == 7


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_in_a_tiff(compression: str | None, order: str, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    levels = np.random.default_rng(channels).integers(0, 65536, (4, 4, channels), dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, compression=compression, byteorder=order, photometric="rgb", planarconfig="contig")
    form = Preprocessing(4, 4, channels, (100.0, 60000.0))
    expected = np.rint((np.clip(levels.astype(float), 100, 60000) - 100) * 255 / 59900)
    expected[..., 3:] = np.rint(levels[..., 3:] / 257)
    assert decode(Original(buffer.getvalue(), ""), form).pixels.tolist() == expected.tolist()


def test_colours_of_16_bits_in_a_png() -> None:
    form = Preprocessing(4, 4, 3, (0.0, 4095.0))
    assert decode(Original(png16(2, [4095, 2048, 5]), ""), form).pixels[0, 0].tolist() == [255, 128, 0]
    grey = Preprocessing(4, 4, 2, (0.0, 4095.0))
    assert decode(Original(png16(4, [2048, 65535]), ""), grey).pixels[0, 0].tolist() == [128, 255]
    clear = Preprocessing(4, 4, 4, (0.0, 4095.0))  # a range of the colours is none of transparency
    assert decode(Original(png16(6, [4095, 0, 2048, 32896]), ""), clear).pixels[0, 0].tolist() == [255, 0, 128, 128]
    assert decode(Original(png16(2, [65535, 257, 128]), ""), Preprocessing(4, 4, 3)).pixels[0, 0].tolist() == [
        255,
        1,
        0,
    ]


def test_frames_are_decoded_by_their_numbers(tmp_path: Path) -> None:
    for form, name in (("TIFF", "a.tif"), ("GIF", "a.gif"), ("WEBP", "a.webp"), ("PNG", "a.png"), ("MPO", "a.jpg")):
        path = tmp_path / name
        path.write_bytes(frames(form))
        assert frames_in(path) == (1 if form == "MPO" else 2)
    (tmp_path / "b.png").write_text("no image")
    assert frames_in(tmp_path / "b.png") == 1
    originals = Frames([tmp_path / "a.tif", tmp_path / "b.png", tmp_path / "a.gif"], [2, 1, 2])
    assert originals.files.tolist() == [0, 0, 1, 2, 2]
    found = originals.fetch(np.array([4, 0, 2]))
    assert [original.where.rpartition("/")[2] for original in found] == ["a.gif frame 1", "a.tif frame 0", "b.png"]
    images = [decode(original, Preprocessing(4, 4, 3)) for original in found[:2]]
    assert [image.pixels[0, 0].tolist() for image in images] == [[0, 0, 255], [255, 0, 0]]
    assert not any(image.traits for image in images)


def test_extremes_are_those_of_wide_images_alone(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    contents = [png16(0, [7]), saved(Image.new("L", (4, 4)), "PNG"), b"no image", png16(6, [300, 4000, 20, 65535])]
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    assert Decoder(Files(paths), GREY).extremes(np.arange(5)) == [(7.0, 7.0), (20.0, 4000.0)]
    values = np.array([[[0.5, np.nan]], [[np.nan, np.nan]], [[2.0, -1.0]]])
    assert Decoder(Pixels(values, "array"), GREY).extremes(np.arange(3)) == [(0.5, 0.5), (-1.0, 2.0)]


@pytest.mark.parametrize(
    ("pixels", "channels", "expected"),
    [
        (np.full((4, 4), 9, dtype=np.uint8), 1, [9]),
        (np.full((4, 4, 1), 9, dtype=np.uint8), 3, [9, 9, 9]),
        (np.tile(np.array([9, 200], dtype=np.uint8), (4, 4, 1)), 2, [9, 200]),
        (np.tile(np.array([1, 2, 3], dtype=np.uint8), (4, 4, 1)), 3, [1, 2, 3]),
        (np.tile(np.array([1, 2, 3, 0], dtype=np.uint8), (4, 4, 1)), 3, [255, 255, 255]),
        (np.ones((4, 4), dtype=bool), 1, [255]),
        (np.full((4, 4), 0.5), 1, [128]),
    ],
)
def test_pixels_of_arrays(pixels: np.ndarray, channels: int, expected: list[int]) -> None:  # type: ignore[type-arg]
    assert decode(Original(pixels, ""), Preprocessing(4, 4, channels)).pixels[0, 0].tolist() == expected


def test_every_format_has_its_endings_and_every_ending_a_format() -> None:
    known = {suffix: form for suffix, form in Image.registered_extensions().items() if form in FORMATS}
    assert set(known.values()) == set(FORMATS)
    assert set(SUFFIXES) <= set(known)


@pytest.mark.parametrize("suffix", [".jfif", ".tga", ".avif", ".webp", ".jp2", ".ppm"])
def test_files_of_every_ending_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (16, 16), (200, 30, 90)).save(path)
    np.testing.assert_allclose(read_file(path, Preprocessing(4, 4, 3))[2, 2].astype(int), (200, 30, 90), atol=6)


def test_a_link_to_nothing_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(tmp_path / "annex")
    with pytest.raises(UnreadableImage, match="a link to a file that is not there; of git-annex or DVC: fetch it"):
        read_file(path, GREY)


def test_files_that_are_empty_missing_or_not_to_be_read_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(UnreadableImage, match=r"a\.jpg is no readable image \(there is no such file\)"):
        read_file(path, GREY)
    path.touch()
    with pytest.raises(UnreadableImage, match=r"\(an empty file\)"):
        read_file(path, GREY)
    with pytest.raises(UnreadableImage, match=r"row 3 is no readable image \(an empty file\)"):
        decode(Original(b"", "row 3"), GREY)

    def denied(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("PIL.Image.open", denied)
    with pytest.raises(UnreadableImage, match=r"\(reading it is not allowed\)"):
        read_file(path, GREY)


def test_a_name_that_is_no_utf8_is_read_and_shown(tmp_path: Path) -> None:
    import os

    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(saved(Image.new("L", (4, 4), 7), "PNG"))
    assert read_file(path, GREY).max() == 7
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"caf\\xe9\.png is no readable image"):
        read_file(path, GREY)


def photograph(size: tuple[int, int], orientation: int | None = None) -> bytes:
    """A smooth picture as a JPEG, perhaps one that its EXIF data says to turn."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 5, height))
    pixels = np.stack([np.sin(x), np.cos(x * y / 3), np.sin(y)], axis=-1) * 100 + 128
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    return saved(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize(
    ("size", "orientation", "target", "decoded"),
    [
        ((640, 480), None, (30, 30), (80, 60)),  # an eighth
        ((640, 480), None, (60, 60), (160, 120)),  # a quarter
        ((640, 480), 6, (100, 60), (320, 240)),  # a half: of the turned image too
        ((640, 480), None, (121, 121), (640, 480)),  # at its size: a half would be less than twice the target
    ],
)
def test_jpegs_are_decoded_at_a_fraction_that_is_twice_the_target_at_least(
    size: tuple[int, int],
    orientation: int | None,
    target: tuple[int, int],
    decoded: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Original(photograph(size, orientation), "here")
    seen = []
    convert = Preprocessing.__call__

    def watched(self: Preprocessing, image: Image.Image) -> np.ndarray:
        seen.append(image.size)
        return convert(self, image)

    monkeypatch.setattr(Preprocessing, "__call__", watched)
    reduced = decode(original, Preprocessing(*target, 3)).pixels.astype(int)
    whole = decode(original, Preprocessing(*target, 3, draft=False)).pixels.astype(int)
    assert seen == [decoded, size]
    assert np.abs(reduced - whole).max() <= 4
    assert np.abs(reduced - whole).mean() < 0.6
