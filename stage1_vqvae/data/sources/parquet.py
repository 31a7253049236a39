"""``data=parquet``: a user's own parquet files, or a data set that `datasets` saved to a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from stage1_vqvae.data.decoding import first_line
from stage1_vqvae.data.originals import LeftOut, OriginalSet
from stage1_vqvae.data.sources.base import Found, ImageSource
from stage1_vqvae.data.sources.folder import file_identity
from stage1_vqvae.data.sources.parquet_files import files_of, find_parquet, named_by_saved, named_files, rows_of
from stage1_vqvae.data.splits import choose_splits, not_used

# `datasets` takes seconds to import, so it is imported where images have to be decoded: a cached set never is.


@dataclass(kw_only=True)
class Parquet(ImageSource):
    """Parquet files in the form of the Hugging Face hub.

    Args:
        files: A file, a pattern, or a folder of shards, of which names that begin with train, validation or test give
            splits (see `stage1_vqvae.data.sources.parquet_files.find_parquet`); or a folder that
            ``datasets.save_to_disk`` wrote. Paths of images in them are relative to the folder of their file.
        image_column: Column of the images, or ``auto`` for ``image``, ``img``, or the only one that holds images.
        label_column: Column of the labels, ``auto`` for ``label`` or the only one of classes, or None to train without.
    """

    files: str
    image_column: str = "auto"
    label_column: str | None = "auto"

    def find(self) -> Found:
        """Lists the files."""
        name = f"parquet {Path(self.files).expanduser().resolve().name}"
        return find_table(self, name, self.files, self.image_column, self.label_column)


def find_table(source: ImageSource, name: str, files: str, image_column: str, label_column: str | None) -> Found:
    """Finds a data set of the Hugging Face hub's form on this machine; the arguments are those of `Parquet`."""
    folder = Path(files).expanduser()
    if is_saved_to_disk(folder):
        return _find_saved(name, folder, image_column, label_column)
    paths = find_parquet(files)
    try:
        named = {split: named_files(shards, image_column) for split, shards in paths.items()}
    except (ValueError, OSError) as error:  # pyarrow's errors are both
        raise ValueError(
            f"data.files={files} cannot be read as parquet ({first_line(error)}): replace the file"
        ) from error
    identity = {
        "columns": [image_column, label_column],
        "files": {split: file_identity([*shards, *named[split]]) for split, shards in paths.items()},
    }

    def read() -> OriginalSet:
        import datasets

        from stage1_vqvae.data.sources.columns import Columns, Folders, columns_set

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
        folders = {
            split: Folders(tuple(shard.parent for shard in shards), tuple(rows_of(shards)))
            for split, shards in paths.items()
        }
        return columns_set(splits, name, Columns(image_column, label_column), folders)

    used = {shard for shards in paths.values() for shard in shards}
    left_out = [
        LeftOut("", str(file), "of a second split that is held back") for file in files_of(files) if file not in used
    ]
    return Found(name, identity, read, tuple(left_out))


def is_saved_to_disk(folder: Path) -> bool:
    """Whether ``datasets.save_to_disk`` wrote a folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _find_saved(name: str, folder: Path, image_column: str, label_column: str | None) -> Found:
    tables = sorted(path for path in folder.rglob("*.arrow"))
    try:
        named = named_by_saved(tables, folder, image_column)
    except (ValueError, OSError) as error:  # pyarrow's errors are both
        raise ValueError(f"data.files={folder} cannot be read ({first_line(error)}): save it again") from error
    identity = {
        "columns": [image_column, label_column],
        "files": file_identity(sorted({*tables, *folder.rglob("*.json"), *named})),
    }

    def read() -> OriginalSet:
        import datasets

        from stage1_vqvae.data.sources.columns import Columns, Folders, columns_set

        try:
            saved = datasets.load_from_disk(str(folder))
        except (ValueError, OSError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"data.files={folder} cannot be read ({first_line(error)}): save it again") from error
        named = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        splits = choose_splits(named, name)
        folders = {split: Folders((folder,), (len(part),)) for split, part in splits.items()}
        found = columns_set(splits, name, Columns(image_column, label_column), folders)
        return replace(found, notes=(*found.notes, *not_used(named, splits)))

    return Found(name, identity, read)
