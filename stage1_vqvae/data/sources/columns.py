"""Images and labels in the columns of a Hugging Face data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.data.labels import number_labels
from stage1_vqvae.data.originals import Content, Original, OriginalSet, OriginalSplit


@dataclass(frozen=True)
class Columns:
    """Which columns hold the images and the labels.

    Attributes:
        image: ``auto`` takes ``image``, ``img``, or the only column that holds images.
        label: Of ClassLabels, integers or strings; ``auto`` takes ``label`` or the only column of ClassLabels, None
            takes none.
    """

    image: str = "auto"
    label: str | None = "auto"


@dataclass(frozen=True)
class Folders:
    """Folders to which paths in a data set are relative: ``folders[i]`` those of the next ``rows[i]`` rows."""

    folders: tuple[Path, ...]
    rows: tuple[int, ...]

    def of(self, row: int) -> Path:
        """The folder for a row."""
        return self.folders[int(np.searchsorted(np.cumsum(self.rows), row, side="right"))]


class Cells:
    """Images in a column: structs of ``bytes`` and ``path``, bytes, or paths.

    Args:
        dataset: Data set with random access.
        column: Column of the images.
        name: What messages call the data set.
        folders: Where relative paths begin; None for the current folder.
    """

    def __init__(self, dataset: datasets.Dataset, column: str, name: str, folders: Folders | None) -> None:
        # In arrow format a row is what the file holds: `datasets` decodes nothing.
        self._dataset = dataset.select_columns([column]).with_format("arrow")
        self._column = column
        self._name = name
        self._folders = folders

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        """Returns the images of rows ``[n]``."""
        cells = self._dataset[rows.tolist()][self._column].to_pylist()
        return [self._original(cell, row) for cell, row in zip(cells, rows.tolist(), strict=True)]

    def _original(self, cell: Any, row: int) -> Original:
        if not isinstance(cell, dict):
            cell = {"path" if isinstance(cell, str) else "bytes": cell}
        content: Content = cell.get("bytes")
        path = cell.get("path") or ""
        if content is None and path:
            content = self._folders.of(row) / path if self._folders else Path(path)
            return Original(content, str(content))
        return Original(content, f"row {row} of {self._name} {path}".rstrip())


def columns_set(
    splits: dict[str, datasets.Dataset], name: str, columns: Columns, folders: dict[str, Folders] | None = None
) -> OriginalSet:
    """Takes images and labels from Hugging Face data sets.

    Args:
        splits: `train` and perhaps `validation`.
        name: What messages call the source.
        columns: Which columns to take.
        folders: Where relative paths of each split begin.

    Raises:
        ValueError: If a column is missing, cannot be told, or holds something else.
    """
    features = splits["train"].features
    image_column = _image_column(features, columns.image, name)
    label_column = _label_column(features, columns.label, name)
    needed = {image_column} | ({label_column} if label_column else set())
    for split, dataset in splits.items():
        if len(dataset) == 0:
            raise ValueError(f"the {split} split of {name} is empty: give one with images")
        if missing := needed - set(dataset.features):
            raise ValueError(f"the {split} split of {name} lacks the column '{min(missing)}' of the train split")
    cells = {
        split: Cells(dataset, image_column, f"{name}, {split}", (folders or {}).get(split))
        for split, dataset in splits.items()
    }
    if label_column is None:
        unlabelled = {split: np.full(len(dataset), -1) for split, dataset in splits.items()}
        return OriginalSet({split: OriginalSplit(cells[split], unlabelled[split]) for split in splits}, ())
    feature = features[label_column]
    declared = feature.names if isinstance(feature, datasets.ClassLabel) else None
    values = {split: _values(dataset, label_column) for split, dataset in splits.items()}
    fix = "set data.label_column to another column, or to null to train without labels"
    labels = number_labels(values, f"labels in column '{label_column}' of {name}", declared, fix)
    made = {split: OriginalSplit(cells[split], labels.by_split[split]) for split in splits}
    return OriginalSet(made, labels.class_names, labels.notes)


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


def _values(dataset: datasets.Dataset, column: str) -> list[Any]:
    return dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
