"""Finds parquet files, which split each belongs to, and the image files that their rows name."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute
import pyarrow.ipc
import pyarrow.parquet
from pyarrow import types

from stage1_vqvae.data.splits import choose_splits, role_of


def find_parquet(files: str | Path) -> dict[str, list[Path]]:
    """Lists parquet files by split.

    Files named as a split (see `splits.role_of`), ``train-00000-of-2`` or ``digits_test`` say, belong to it, or else
    those in a folder so named. Where none is named so, or all are of one split, all together are the training split.

    Args:
        files: A parquet file, a pattern such as ``data/*.parquet``, or a folder (searched to any depth).

    Raises:
        ValueError: If nothing is found, only some of the files are named by split, or none is to train on.
    """
    found = files_of(files)
    if not found:
        path = Path(files).expanduser()
        raise ValueError(
            f"data.files={files}: no parquet files there, give a .parquet file, a pattern "
            f"such as '{path.parent / '*.parquet'}', or a folder that holds some"
        )
    by_folder = len({file.parent for file in found}) > 1
    by_role: dict[str, list[Path]] = {}
    for file in found:
        by_role.setdefault(_role_of_file(file, by_folder), []).append(file)
    if len(by_role) == 1:
        return {"train": found}
    if "" in by_role or "train" not in by_role:
        named = next(by_role[role][0] for role in ("train", "validation", "test") if role in by_role)
        other = next(by_role[role][0] for role in ("", "test") if role in by_role)
        raise ValueError(
            f"data.files={files}: {named.name} is named as a split, {other.name} "
            f"{'is not' if '' in by_role else 'too, and none as the training split'}: rename files train-..., "
            "validation-... or test-..., or give a pattern that takes some of them"
        )
    return choose_splits(by_role, f"data.files={files}")


def files_of(files: str | Path) -> list[Path]:
    """Lists all parquet files of a path, a pattern or a folder."""
    path = Path(files).expanduser()
    if path.is_dir():
        return sorted(path.rglob("*.parquet"))
    return sorted(Path(name) for name in glob.glob(str(path), recursive=True))


def _role_of_file(file: Path, by_folder: bool) -> str:
    return role_of(file.stem) or (role_of(file.parent.name) if by_folder else "")


def named_files(shards: list[Path], image_column: str) -> list[Path]:
    """Returns the image files that rows of parquet files name instead of holding them, each once.

    Args:
        shards: Parquet files of one form.
        image_column: The column of images, or ``auto`` for all that may be it.
    """
    return sorted({path for shard in shards for path in _named_by(shard, image_column)})


def named_by_saved(files: list[Path], folder: Path, image_column: str) -> list[Path]:
    """Returns the same of the files that ``datasets.save_to_disk`` wrote to a folder, where relative paths begin."""
    found: set[Path] = set()
    for file in files:
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            columns = list(_may_name(stream.schema, image_column))
            found.update(folder / name for batch in stream for column in columns for name in _names(batch[column]))
    return sorted(found)


def _named_by(shard: Path, image_column: str) -> Iterator[Path]:
    with pyarrow.parquet.ParquetFile(shard) as file:
        for column in _may_name(file.schema_arrow, image_column):
            if types.is_struct(file.schema_arrow.field(column).type) and not _lacks_bytes(file, column):
                continue
            for batch in file.iter_batches(columns=[column]):
                yield from (shard.parent / name for name in _names(batch.column(0)))


def _may_name(schema: pyarrow.Schema, image_column: str) -> Iterator[str]:
    """Columns that may name files of images."""
    for column in schema.names if image_column == "auto" else {image_column} & set(schema.names):
        kind = schema.field(column).type
        structs = types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}
        if structs or (image_column != "auto" and _is_text(kind)):
            yield column


def _names(cells: pyarrow.Array) -> Iterator[str]:
    """Names of the files that cells name instead of holding them."""
    if types.is_struct(cells.type):
        lacking = cells.filter(pyarrow.compute.is_null(cells.field("bytes")))
        cells = lacking.field("path")
    yield from (name for name in cells.to_pylist() if name)


def _is_text(kind: pyarrow.DataType) -> bool:
    """Whether a column holds text, in any of the forms in which libraries write it."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(is_text(kind) for is_text in (types.is_string, types.is_large_string, types.is_string_view))


def _lacks_bytes(file: pyarrow.parquet.ParquetFile, column: str) -> bool:
    """Whether some rows of a column of structs may hold no encoded image, as far as the file's statistics say."""
    for group in range(file.num_row_groups):
        row_group = file.metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema == f"{column}.bytes":
                statistics = chunk.statistics
                if statistics is None or not statistics.has_null_count or statistics.null_count > 0:
                    return True
    return False


def rows_of(shards: list[Path]) -> list[int]:
    """Returns the number of rows of each parquet file."""
    return [pyarrow.parquet.read_metadata(shard).num_rows for shard in shards]
