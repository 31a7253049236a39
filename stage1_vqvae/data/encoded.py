"""Images as Hugging Face data sets hold them: encoded files in a column, decoded row by row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stage1_vqvae.data.dataset import ImageSet, LabelledImages, UnreadableImage
from stage1_vqvae.data.preprocessing import Preprocessing

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. PIL knows more, among them formats that it hands to other programs."""
MOST_PIXELS = 2**26
"""An image of more is refused: a file of kilobytes can hold gigabytes of one colour."""


class EncodedImages:
    """Decodes images from a column of a data set: structs of `bytes` and `path`, bytes, or paths.

    Args:
        dataset: Data set with random access.
        column: Column of the images.
        preprocessing: What is done to each.
        name: What errors call the data set.
    """

    def __init__(self, dataset: datasets.Dataset, column: str, preprocessing: Preprocessing, name: str) -> None:
        # In arrow format a row is what the file holds: `datasets` decodes nothing.
        self._dataset = dataset.select_columns([column]).with_format("arrow")
        self._column = column
        self._preprocessing = preprocessing
        self._name = name

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decodes rows ``[n]`` to uint8 ``[n, H, W, C]``.

        Raises:
            UnreadableImage: If a file is missing or is no image that can be read.
        """
        cells = self._dataset[rows.tolist()][self._column].to_pylist()
        return np.stack([self._decode(cell, row) for cell, row in zip(cells, rows.tolist(), strict=True)])

    def _decode(self, cell: Any, row: int) -> NDArray[np.uint8]:
        if not isinstance(cell, dict):
            cell = {"path" if isinstance(cell, str) else "bytes": cell}
        encoded, path = cell.get("bytes"), cell.get("path") or ""
        try:
            with _open(encoded, path) as image:
                return self._preprocessing(image)
        # PIL's decoders raise OSError, SyntaxError, struct.error, EOFError, ... on broken files.
        except Exception as error:
            where = path if encoded is None and path else f"row {row} of {self._name} {path}".rstrip()
            raise UnreadableImage(where, first_line(error)) from error


def _open(encoded: bytes | None, path: str) -> Image.Image:
    """Opens an image whose header promises no more than can be decoded, and whose checksums hold where it has any."""

    def opened() -> Image.Image:
        return Image.open(Path(path) if encoded is None else io.BytesIO(encoded), formats=FORMATS)

    image = opened()
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels, at most {MOST_PIXELS:,} are decoded")
    if image.format != "PNG":
        return image
    with image:
        image.verify()  # decoding does not look at the checksums
    return opened()


def first_line(error: BaseException) -> str:
    """Returns what an error of another library says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def encoded_set(
    splits: dict[str, datasets.Dataset],
    name: str,
    preprocessing: Preprocessing,
    image_column: str = "auto",
    label_column: str | None = "auto",
) -> ImageSet:
    """Makes a set of Hugging Face data sets.

    Args:
        splits: `train` and perhaps `validation`.
        name: What errors call the source.
        preprocessing: What is done to each image.
        image_column: Column of the images; `auto` takes `image`, `img`, or the only one that holds images.
        label_column: Column of the labels, of ClassLabels, integers or strings; `auto` takes `label` or the
            only column of ClassLabels, None takes none.

    Raises:
        ValueError: If a column is missing, cannot be told, or holds something else.
    """
    features = splits["train"].features
    image_column = _image_column(features, image_column, name)
    label_column = _label_column(features, label_column, name)
    columns = {image_column} | ({label_column} if label_column else set())
    for split, dataset in splits.items():
        if len(dataset) == 0:
            raise ValueError(f"the {split} split of {name} is empty: give one with images")
        if missing := columns - set(dataset.features):
            raise ValueError(f"the {split} split of {name} lacks the column '{min(missing)}' of the train split")
    values = {split: _values(dataset, label_column) for split, dataset in splits.items()}
    labels, class_names = _index_labels(values, features.get(label_column), f"'{label_column}' of {name}")
    images = {
        split: LabelledImages(EncodedImages(dataset, image_column, preprocessing, f"{name}, {split}"), labels[split])
        for split, dataset in splits.items()
    }
    return ImageSet(images, class_names)


def _image_column(features: dict[str, Any], wanted: str, name: str) -> str:
    if wanted != "auto":
        return _existing_column(features, wanted, name, "image_column")
    candidates = [column for column, feature in features.items() if _holds_images(feature)]
    preferred = [column for column in ("image", "img") if column in candidates] or candidates
    if not preferred or (len(candidates) > 1 and preferred is candidates):
        raise ValueError(
            f"cannot tell which column of {name} holds the images: "
            f"set data.image_column to one of {', '.join(candidates or features)}"
        )
    return preferred[0]


def _label_column(features: dict[str, Any], wanted: str | None, name: str) -> str | None:
    if wanted is None:
        return None
    if wanted != "auto":
        return _existing_column(features, wanted, name, "label_column")
    candidates = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if "label" in features:
        return "label"
    if len(candidates) > 1:
        raise ValueError(
            f"{name} has several columns of labels: set data.label_column to one of {', '.join(candidates)}, or to null"
        )
    return candidates[0] if candidates else None


def _existing_column(features: dict[str, Any], wanted: str, name: str, key: str) -> str:
    if wanted not in features:
        raise ValueError(f"data.{key}={wanted}: {name} has the columns {', '.join(features)}")
    return wanted


def _holds_images(feature: Any) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)


def _values(dataset: datasets.Dataset, column: str | None) -> list[Any]:
    if column is None:
        return [None] * len(dataset)
    return dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()


def _index_labels(
    values: dict[str, list[Any]], feature: Any, name: str
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Numbers the classes: ClassLabels as they are, other values in sorted order over all splits."""
    if isinstance(feature, datasets.ClassLabel) and feature.names:
        names = tuple(feature.names)
        known = {position: position for position in range(len(names))}
    else:
        present = [value for column in values.values() for value in column if value not in (None, -1)]
        if not all(isinstance(value, (int, str)) for value in present) or len(set(map(type, present))) > 1:
            raise ValueError(
                f"the labels in column {name} are neither all integers nor all strings: "
                f"set data.label_column to another column, or to null"
            )
        known = {value: position for position, value in enumerate(sorted(set(present)))}
        names = tuple(str(value) for value in known)
    unlabelled = {None: -1, -1: -1}
    try:
        labels = {
            split: np.array([(known | unlabelled)[value] for value in column], dtype=np.int64)
            for split, column in values.items()
        }
    except KeyError as error:
        raise ValueError(f"label {error} in column {name} is not among its {len(names)} classes") from error
    return labels, names
