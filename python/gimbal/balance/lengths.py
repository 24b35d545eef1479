"""Sample sizes from files: CSV, Parquet, npy, npz, or a dataset folder of `gimbal prepare`."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gimbal import UserError
from gimbal.balance import arrays

PAIRS = ".pairs"
ARRAY_FILES = (".npy", ".npz")
PARQUET_FILES = (".parquet", ".pq")


@dataclass(frozen=True)
class LengthTable:
    """N samples x K streams with where they come from. Every function of gimbal.balance takes it in place of `sizes`."""

    names: list[str]
    sizes: npt.NDArray[np.uint32]  # [N, K]
    pairs: npt.NDArray[np.uint64] | None  # [N, K]; None: rows^2
    sources: npt.NDArray[np.uint32]  # [N], index into source_names
    source_names: list[str]
    source_weights: list[float]  # per source, from a dataset folder; 1 for files
    describe: Callable[[int], str]  # "docvqa.csv line 12" of a sample

    def __len__(self) -> int:
        return len(self.sizes)


def _columns_of_parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs pyarrow; pip install pyarrow, or give a CSV file") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not readable as Parquet ({error})") from error
    columns = {}
    for name, column in zip(table.column_names, table.columns):
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise UserError(f"{path}: row {row + 1} has no value in column '{name}'; write 0 for a sample without such rows")
        columns[name] = column.to_numpy()
    return columns


def _columns_of_numpy(path: Path, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        # What the file is decides, not its name's ending.
        if isinstance(loaded, np.lib.npyio.NpzFile):
            return dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable as a numpy file ({error})") from error
    array = loaded
    if array.ndim != 2:
        raise UserError(f"{path}: the array has {array.ndim} dimensions; give [samples, streams]")
    if names is not None and len(names) != array.shape[1]:
        raise UserError(f"{path}: {array.shape[1]} columns for the {len(names)} streams {', '.join(names)}")
    return {name: array[:, k] for k, name in enumerate(names or [f"stream{k}" for k in range(array.shape[1])])}


def _whole_column(path: Path, name: str, column: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    if column.ndim != 1:
        raise UserError(f"{path}: '{name}' has {column.ndim} dimensions; give one number per sample")
    if column.dtype.kind not in "iuf":
        raise UserError(f"{path}: column '{name}' holds {column.dtype}; give whole numbers")
    most = int(np.iinfo(dtype).max)
    # Compared as what the file holds: a conversion first could wrap around, or round a float up to 2^64.
    bad = (column < 0) | (column > most)
    if column.dtype.kind == "f":
        bad |= ~np.isfinite(column) | (column != np.floor(column)) | (column >= float(most) + 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(f"{path}: row {row + 1} has {column[row]} in column '{name}'; give a whole number from 0 to {most}")
    return column.astype(dtype)


def _read_columns(path: Path, names: Sequence[str] | None) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Names, sizes [N, K] and pairs of a Parquet or numpy file."""
    parquet = path.suffix.lower() in PARQUET_FILES
    columns = _columns_of_parquet(path) if parquet else _columns_of_numpy(path, names)
    streams = [name for name in columns if not name.endswith(PAIRS)]
    if names is not None:
        for name in names:
            if name not in streams:
                raise UserError(f"{path}: has no column '{name}'; its columns are {', '.join(streams)}")
        streams = list(names)
    if not 1 <= len(streams) <= arrays.MAX_STREAMS:
        more = "; choose some with names=[...]" if streams else ""
        raise UserError(f"{path}: {len(streams)} columns of sizes; 1 to {arrays.MAX_STREAMS} streams are possible{more}")
    for name in columns:
        if name.endswith(PAIRS) and name.removesuffix(PAIRS) not in columns:
            raise UserError(f"{path}: column '{name}' is of no stream; there is no column '{name.removesuffix(PAIRS)}'")
    if len({len(columns[name]) for name in streams}) > 1:
        lengths = ", ".join(f"{name} {len(columns[name])}" for name in streams)
        raise UserError(f"{path}: columns of unlike length: {lengths}")
    sizes = np.stack([_whole_column(path, name, columns[name], np.uint32) for name in streams], axis=1)
    if not any(name + PAIRS in columns for name in streams):
        return streams, sizes, None
    pairs = sizes.astype(np.uint64) ** 2
    for k, name in enumerate(streams):
        if name + PAIRS in columns:
            column = _whole_column(path, name + PAIRS, columns[name + PAIRS], np.uint64)
            if len(column) != len(sizes):
                raise UserError(f"{path}: '{name}{PAIRS}' has {len(column)} entries for {len(sizes)} samples")
            pairs[:, k] = column
    return streams, sizes, pairs


def _read_one(path: Path, names: Sequence[str] | None) -> LengthTable:
    suffix = path.suffix.lower()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if not path.is_dir() and suffix in (*ARRAY_FILES, *PARQUET_FILES):
        streams, sizes, pairs = _read_columns(path, names)
        zeros = np.zeros(len(sizes), np.uint32)
        return LengthTable(streams, sizes, pairs, zeros, [path.stem], [1.0], lambda sample: f"{path} row {sample + 1}")
    from gimbal import _native

    native = _native.read_dataset_lengths(path) if path.is_dir() else _native.read_length_csv([path])
    table = LengthTable(
        names=native.streams,
        sizes=native.rows,
        pairs=native.pairs,
        sources=native.sources,
        source_names=native.source_names,
        source_weights=native.source_weights,
        describe=native.describe_sample,
    )
    return table if names is None else _select(table, names, path)


def _select(table: LengthTable, names: Sequence[str], path: Path) -> LengthTable:
    """The named streams, in that order."""
    for name in names:
        if name not in table.names:
            raise UserError(f"{path}: has no stream '{name}'; its streams are {', '.join(table.names)}")
    if list(names) == table.names:
        return table
    columns = [table.names.index(name) for name in names]
    pairs = None if table.pairs is None else np.ascontiguousarray(table.pairs[:, columns])
    sizes = np.ascontiguousarray(table.sizes[:, columns])
    return replace(table, names=list(names), sizes=sizes, pairs=pairs)


def _source_names(tables: Sequence[LengthTable], paths: Sequence[Path]) -> list[str]:
    """Names of all sources; those that occur twice get their folder in front."""
    names = [name for table in tables for name in table.source_names]
    folders = [path.parent.name for table, path in zip(tables, paths) for _ in table.source_names]
    if len(set(names)) < len(names):
        names = [f"{folder}/{name}" if names.count(name) > 1 else name for folder, name in zip(folders, names)]
    return [f"{name}#{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def read_lengths(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, names: Sequence[str] | None = None
) -> LengthTable:
    """Reads one or several files as one table, in the given order; each file is a source.

    CSV with a header, Parquet (needs pyarrow), npz with one array per stream, npy with [N, K], or a dataset folder. All must
    have the same streams. `names` chooses and orders the streams, and names the columns of npy files ("stream0", ...
    otherwise). A column NAME.pairs gives what attends in stream NAME. Raises UserError naming file, row (from 1) and
    column.
    """
    paths = [Path(files)] if isinstance(files, (str, os.PathLike)) else [Path(file) for file in files]
    if not paths:
        raise UserError("read_lengths: no file was given")
    names = list(names) if names is not None else None
    tables: list[LengthTable] = []
    for path in paths:
        table = _read_one(path, names)
        if tables and sorted(table.names) != sorted(tables[0].names):
            raise UserError(
                f"{path}: its streams are {', '.join(table.names)}, those of {paths[0]} {', '.join(tables[0].names)}; "
                "all files must have the same, or choose some with names=[...]"
            )
        tables.append(_select(table, tables[0].names, path) if tables else table)
    if len(tables) == 1:
        return tables[0]
    starts = np.cumsum([0] + [len(table) for table in tables])
    first = np.cumsum([0] + [len(table.source_names) for table in tables])
    pairs = None
    if any(table.pairs is not None for table in tables):
        squares = [t.sizes.astype(np.uint64) ** 2 if t.pairs is None else t.pairs for t in tables]
        pairs = np.concatenate(squares)

    def describe(sample: int) -> str:
        file = int(np.searchsorted(starts, sample, side="right")) - 1
        return tables[file].describe(sample - int(starts[file]))

    return LengthTable(
        names=tables[0].names,
        sizes=np.concatenate([table.sizes for table in tables]),
        pairs=pairs,
        sources=np.concatenate([t.sources + np.uint32(f) for t, f in zip(tables, first)]).astype(np.uint32),
        source_names=_source_names(tables, paths),
        source_weights=[weight for table in tables for weight in table.source_weights],
        describe=describe,
    )
