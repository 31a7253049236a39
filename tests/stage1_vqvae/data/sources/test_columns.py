from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stage1_vqvae.data.decoding import Decoder, UnreadableImage
from stage1_vqvae.data.originals import OriginalSet
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.data.sources.columns import Columns, columns_set

FORM = Preprocessing(4, 4, 1)


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), level).save(buffer, "PNG")
    return buffer.getvalue()


def dataset(columns: dict[str, list[Any]], **features: Any) -> datasets.Dataset:
    made = datasets.Dataset.from_dict(columns)
    for column, feature in features.items():
        made = made.cast_column(column, feature)
    return made


def opened(columns: dict[str, list[Any]], image: str = "auto", label: str | None = "auto") -> OriginalSet:
    return columns_set({"train": dataset(columns)}, "things", Columns(image, label))


def read(images: OriginalSet, rows: list[int], split: str = "train") -> NDArray[np.uint8]:
    return Decoder(images.splits[split].originals, FORM).read(np.array(rows))


def levels(images: OriginalSet, split: str = "train") -> list[int]:
    return read(images, list(range(len(images.splits[split].labels))), split)[:, 0, 0, 0].tolist()


def test_structs_bytes_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    structs = [{"bytes": png(5), "path": "x.png"}, {"bytes": None, "path": str(path)}]
    assert levels(opened({"img": structs})) == [5, 7]
    assert levels(opened({"data": [png(5), png(6)]})) == [5, 6]
    assert levels(opened({"file": [str(path)]}, image="file")) == [7]


def test_columns_typed_as_images() -> None:
    typed = dataset({"picture": [{"bytes": png(9), "path": None}]}, picture=datasets.Image())
    assert levels(columns_set({"train": typed}, "things", Columns())) == [9]


def test_rows_come_in_the_order_asked_for() -> None:
    images = opened({"img": [png(level) for level in range(5)]})
    assert read(images, [4, 0, 4])[:, 0, 0, 0].tolist() == [4, 0, 4]


def test_image_is_preferred_to_other_columns_of_images() -> None:
    assert levels(opened({"mask": [png(1)], "image": [png(2)]})) == [2]
    assert levels(opened({"mask": [png(1)], "image": [png(2)]}, image="mask")) == [1]
    with pytest.raises(ValueError, match=r"set data\.image_column to one of mask, photo"):
        opened({"mask": [png(1)], "photo": [png(2)]})
    with pytest.raises(ValueError, match=r"data\.image_column=x: things has the columns photo"):
        opened({"photo": [png(2)]}, image="x")


def test_class_labels_keep_their_order_and_names() -> None:
    kind = datasets.ClassLabel(names=["zebra", "ant", "bee"])
    train = dataset({"img": [png(0)] * 4, "label": [2, 0, None, -1]}, label=kind)
    images = columns_set({"train": train}, "things", Columns())
    assert images.class_names == ("zebra", "ant", "bee")
    assert images.splits["train"].labels.tolist() == [2, 0, -1, -1]


def test_other_labels_are_numbered_in_sorted_order_over_all_splits() -> None:
    parts = {"train": [30, 4, 30], "validation": [100, 4]}
    splits = {split: dataset({"img": [png(0)] * len(v), "label": v}) for split, v in parts.items()}
    images = columns_set(splits, "things", Columns())
    assert images.class_names == ("4", "30", "100")
    assert images.splits["train"].labels.tolist() == [1, 0, 1]
    assert images.splits["validation"].labels.tolist() == [2, 0]
    assert opened({"img": [png(0)] * 2, "label": ["dog", "cat"]}).class_names == ("cat", "dog")


def test_no_labels() -> None:
    for images in (opened({"img": [png(0)]}), opened({"img": [png(0)], "label": [3]}, label=None)):
        assert images.class_names == ()
        assert images.splits["train"].labels.tolist() == [-1]


def test_label_columns_are_found_or_asked_for() -> None:
    kind = datasets.ClassLabel(names=["a", "b"])
    one = dataset({"img": [png(0)], "kind": [1], "id": [5]}, kind=kind)
    assert columns_set({"train": one}, "things", Columns()).splits["train"].labels.tolist() == [1]
    two = dataset({"img": [png(0)], "fine": [1], "coarse": [0]}, fine=kind, coarse=kind)
    with pytest.raises(ValueError, match=r"set data\.label_column to one of fine, coarse, or to null"):
        columns_set({"train": two}, "things", Columns())
    chosen = columns_set({"train": two}, "things", Columns(label="coarse"))
    assert chosen.splits["train"].labels.tolist() == [0]


@pytest.mark.parametrize("values", [[0.5], [[1, 2]]])
def test_labels_that_are_none(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="'label' of things are neither all integers nor all strings"):
        opened({"img": [png(0)], "label": values})


def test_splits_have_to_fit_together() -> None:
    train = dataset({"img": [png(0)], "label": [1]})
    with pytest.raises(ValueError, match="validation split of things lacks the column 'label'"):
        columns_set({"train": train, "validation": dataset({"img": [png(0)]})}, "things", Columns())
    with pytest.raises(ValueError, match="validation split of things is empty"):
        columns_set({"train": train, "validation": train.select([])}, "things", Columns())


def test_broken_images_are_named(tmp_path: Path) -> None:
    truncated = opened({"img": [{"bytes": png(0), "path": None}, {"bytes": png(0)[:40], "path": "b.png"}]})
    with pytest.raises(ValueError, match=r"row 1 of things, train b\.png is no readable image \(.+\): replace"):
        levels(truncated)
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(ValueError, match=rf"{name} is no readable image") as caught:
            levels(opened({"file": [str(tmp_path / name)]}, image="file"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="row 1 of things, train is no readable image"):
        levels(opened({"img": [png(0), None]}))


def photo(form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def corruptions(whole: bytes) -> dict[str, bytes]:
    middle = len(whole) // 2
    return {
        "empty": b"",
        "header alone": whole[:8],
        "cut in half": whole[:middle],
        "cut at the end": whole[: -len(whole) // 8],
        "text": b"<html>404 Not Found</html>",
        "header lost": bytes(8) + whole[8:],
    }


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("corruption", list(corruptions(b"")))
def test_corrupt_files_are_no_images(form: str, corruption: str) -> None:
    broken = corruptions(photo(form))[corruption]
    with pytest.raises(UnreadableImage):
        levels(opened({"img": [{"bytes": broken, "path": "x"}]}))


def test_flipped_bits_of_a_png_are_seen() -> None:
    whole = photo("PNG")
    seen = []
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 40):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        images = opened({"img": [bytes(flipped), whole]})
        try:  # a bit behind the pixels may flip as it likes
            np.testing.assert_array_equal(*read(images, [0, 1]))
        except UnreadableImage as error:
            seen.append(error.reason)
    assert len(seen) >= 39


def test_decompression_bombs_and_formats_that_need_other_programs_are_refused() -> None:
    bomb = io.BytesIO()
    Image.new("1", (2**14, 2**13)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 2**16
    with pytest.raises(UnreadableImage, match="16384×8192 pixels, at most 67,108,864"):
        levels(opened({"img": [bomb.getvalue()]}))
    with pytest.raises(UnreadableImage, match="cannot identify"):
        levels(opened({"img": [photo("EPS")]}))
