"""``data=hub``: a data set of the Hugging Face hub by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stage1_vqvae.data.decoding import first_line
from stage1_vqvae.data.sources.base import Found, ImageSource
from stage1_vqvae.data.sources.parquet import find_table, is_saved_to_disk
from stage1_vqvae.data.splits import choose_splits, not_used


@dataclass(kw_only=True)
class Hub(ImageSource):
    """A data set of the Hugging Face hub, such as ``ylecun/mnist`` or ``uoft-cs/cifar10``.

    Args:
        name: Its name on the hub, or a folder that ``datasets.save_to_disk`` wrote.
        subset: Its configuration, for data sets that have several.
        files: Parquet files of the data set on this machine, or a folder that ``datasets.save_to_disk`` wrote, to be
            read instead of downloading it.
        image_column: Column of the images, or ``auto`` for ``image``, ``img``, or the only one that holds images.
        label_column: Column of the labels, ``auto`` for ``label`` or the only one of classes, or None to train without.
    """

    name: str
    subset: str | None = None
    files: str | None = None
    image_column: str = "auto"
    label_column: str | None = "auto"

    def find(self) -> Found:
        """Lists the local files or downloads the data set (`datasets` keeps its own copy)."""
        if self.files is not None:
            return find_table(self, self.name, self.files, self.image_column, self.label_column)
        folder = Path(self.name).expanduser()
        if is_saved_to_disk(folder):
            return find_table(
                self, f"data set {folder.resolve().name}", self.name, self.image_column, self.label_column
            )
        import datasets

        from stage1_vqvae.data.sources.columns import Columns, columns_set

        try:
            named = datasets.load_dataset(self.name, self.subset)
        # What a missing network or name raises depends on the versions of three libraries.
        except Exception as error:
            raise ValueError(
                f"data.name={self.name} cannot be had from the hub ({first_line(error)}): check the "
                f"name and the network, or set data.files to the data set's parquet files on this machine"
            ) from error
        all_splits = dict(named)
        splits = choose_splits(all_splits, self.name)
        columns = Columns(self.image_column, self.label_column)
        identity = {
            "columns": [self.image_column, self.label_column],
            "fingerprints": {split: dataset._fingerprint for split, dataset in splits.items()},
        }
        return Found(
            self.name, identity, lambda: columns_set(splits, self.name, columns), notes=not_used(all_splits, splits)
        )
