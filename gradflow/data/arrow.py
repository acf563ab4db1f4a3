"""Parquet and Arrow files, read with pyarrow."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from gradflow.checks import file_path, sequence
from gradflow.data.frames import TIME_ADVICE
from gradflow.data.held_out import ColumnPiece
from gradflow.data.sources import Block
from gradflow.data.streams import BLOCK_ROWS, Stream, columns_block
from gradflow.data.table import chosen_columns, columns_to_read, only_target
from gradflow.data.where import Where
from gradflow.errors import DataError, unknown_name
from gradflow.installation import pip_install
from gradflow.random import shuffle

_READ_BUFFER = 2**14  # bytes; without it pyarrow reads a whole column of a row group at once


class _Part(NamedTuple):
    """Rows stored together in a file: a Parquet row group or an Arrow record batch.

    Attributes:
        path: the file.
        number: the number of the part in the file.
        first_row: the number of its first row in the file.
        first: the number of its first row in all files together.
        rows: the number of its rows.
    """

    path: Path
    number: int
    first_row: int
    first: int
    rows: int


class _Reader(Protocol):
    """An open file."""

    schema: Any

    def __init__(self, path: Path) -> None: ...

    def sizes(self) -> list[int]:
        """The number of rows in each part."""

    def record_batches(self, number: int, names: list[str], rows: int) -> Generator[Any, None, None]:
        """Yield the record batches of a part, with at most ``rows`` rows each."""

    def close(self) -> None: ...


class _ParquetReader:
    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetFile(path, buffer_size=_READ_BUFFER, pre_buffer=False)
        self.schema = self._file.schema_arrow

    def sizes(self) -> list[int]:
        metadata = self._file.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def record_batches(self, number: int, names: list[str], rows: int) -> Generator[Any, None, None]:
        yield from self._file.iter_batches(rows, row_groups=[number], columns=names, use_threads=False)

    def close(self) -> None:
        self._file.close(force=True)


class _ArrowReader:
    def __init__(self, path: Path) -> None:
        import pyarrow.ipc

        self._map = pyarrow.memory_map(str(path))
        self._file = pyarrow.ipc.open_file(self._map)
        self.schema = self._file.schema

    def sizes(self) -> list[int]:
        return [self._file.get_batch(number).num_rows for number in range(self._file.num_record_batches)]

    def record_batches(self, number: int, names: list[str], rows: int) -> Generator[Any, None, None]:
        batch = self._file.get_batch(number).select(names)
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)

    def close(self) -> None:
        self._map.close()


def _paths(path: Any) -> Path | list[Path]:
    """Validate a path or a list of paths."""
    if isinstance(path, str | os.PathLike):
        return file_path("path", path)
    return [file_path("each path", item) for item in sequence("path", path, "the path of a file or folder, or a list")]


class _Files(Stream):
    """Files with the same columns, whose parts are read in order or shuffled; otherwise as `Stream`."""

    reorders = True
    suffixes: ClassVar[tuple[str, ...]]
    reader: ClassVar[type[_Reader]]

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        target: str | Sequence[str] | None,
        features: str | Sequence[str] | None = None,
        sample_weight: str | None = None,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        super().__init__(block_rows)
        pyarrow = _pyarrow()
        self._path = _paths(path)
        self.sample_weight = sample_weight
        self._parts: list[_Part] = []
        self._rows: int = 0
        kinds: dict[str, str] = {}
        categories: set[str] = set()
        self._timestamps: dict[str, str] = {}
        for file in self._files():
            with closing(self._opened(file)) as opened:
                schema = opened.schema
                declared = _categories_of_pandas(schema)
                if not kinds:
                    self.features, self.target = chosen_columns(
                        str(file), schema.names, features, target, sample_weight
                    )
                for name in columns_to_read(self.features, self.target, sample_weight):
                    if name not in schema.names:
                        raise DataError(f"{file} has no column {name!r}, which {self._parts[0].path} has")
                    of = schema.field(name).type
                    categories |= {name} if name in declared or pyarrow.types.is_dictionary(of) else set()
                    kind = _kind(of, name, file, is_feature=name in self.features)
                    if kind == "timestamps":
                        self._timestamps[name] = f"column {name!r} holds times (type {of}); {TIME_ADVICE}"
                    if kinds.setdefault(name, kind) != kind:
                        raise DataError(
                            f"column {name!r} of {file} has type {of}, but that of {self._parts[0].path} holds "
                            f"{kinds[name]}; write all files with the same types"
                        )
                first_row = 0
                for number, rows in enumerate(opened.sizes()):
                    self._parts.append(_Part(file, number, first_row, self._rows, rows))
                    first_row += rows
                    self._rows += rows
        self._categories = frozenset(categories)
        if self._rows == 0:
            raise DataError(f"{path} has no rows; at least 1 is needed")

    def __len__(self) -> int:
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        return self._blocks(self._ordered(seed, epoch))

    def read_chosen(self, chosen: np.ndarray, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        parts = self._ordered(seed, epoch)
        read = [part for part in parts if chosen[part.first : part.first + part.rows].any()]
        with closing(self._blocks(read)) as blocks:
            for block in blocks:
                first = block.first or 0
                places = np.flatnonzero(chosen[first : first + len(block)])
                if len(places):
                    yield block[places]

    def _ordered(self, seed: int | None, epoch: int) -> list[_Part]:
        order = np.arange(len(self._parts))
        if seed is not None:
            order = shuffle(order, len(order), seed=seed, epoch=epoch)
        return [self._parts[number] for number in order]

    def _blocks(self, parts: Sequence[_Part]) -> Generator[Block, None, None]:
        names = columns_to_read(self.features, self.target, self.sample_weight)
        for part in parts:
            row = part.first_row
            try:
                with closing(self._opened(part.path)) as opened:
                    for batch in opened.record_batches(part.number, names, self.block_rows):
                        columns = {name: _values(batch.column(name), name, part.path) for name in names}
                        where = Where(range(row, row + batch.num_rows))
                        block = columns_block(
                            columns,
                            self.features,
                            self.target,
                            self.sample_weight,
                            where,
                            str(part.path),
                            self._categories,
                            self._timestamps,
                        )
                        yield replace(block, first=part.first + row - part.first_row)
                        row += batch.num_rows
            except (_pyarrow().ArrowException, OSError) as error:
                raise DataError(f"{part.path} cannot be read after row {row}: {error}") from error
            if row != part.first_row + part.rows:
                raise DataError(
                    f"{part.path} has changed since it was opened: rows {part.first_row} to "
                    f"{part.first_row + part.rows - 1} are now {row - part.first_row} rows"
                )

    def record_batches(self, names: Sequence[str]) -> Generator[Any, None, None]:
        """Yield the columns ``names`` of all rows in order, as pyarrow's record batches."""
        for part in self._parts:
            with closing(self._opened(part.path)) as opened:
                yield from opened.record_batches(part.number, list(names), self.block_rows)

    @property
    def targets_take_a_pass(self) -> bool:
        return False

    def target_blocks(self) -> Generator[Block, None, None]:
        only = copy.copy(self)
        only.features = ()
        return only.blocks()

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        name = only_target(str(self), self.target) if name is None else name
        for path in dict.fromkeys(part.path for part in self._parts):
            with closing(self._opened(path)) as opened:
                if name not in opened.schema.names:
                    raise DataError(f"{path}: {unknown_name('column', name, opened.schema.names)}")
        only = copy.copy(self)
        only.features, only.target, only.sample_weight = (name,), (), None
        yield from Stream.column(only, name)

    def _files(self) -> list[Path]:
        files: list[Path] = []
        for path in self._path if isinstance(self._path, list) else [self._path]:
            found = [path]
            if path.is_dir():
                found = sorted(file for file in path.iterdir() if file.suffix in self.suffixes)
            files.extend(found)
        if not files:
            raise DataError(f"{self._path} contains no files ending in {' or '.join(self.suffixes)}")
        return files

    def _opened(self, path: Path) -> _Reader:
        try:
            return self.reader(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        except (_pyarrow().ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged or not a valid {type(self).__name__} file: {error}") from error

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r}, target={self.target!r}, features={self.features!r})"


class Parquet(_Files):
    """Parquet files, which may be larger than memory. Needs pyarrow: the extra ``arrow``.

    With shuffling, each epoch reads the row groups in a new order and shuffles rows within blocks of ``block_rows``
    (`Stream`), which may span several row groups. Numbers, booleans and text are read, and timestamps with the rule
    `Dates`; a null is a missing value. Dictionary columns, and columns that were ``category`` in pandas, hold
    categories, even if they look like numbers.

    Args:
        path: a file; several files; or a folder with ``*.parquet`` files, read in the order of their names.
        target: the name of the column to predict, or several names; None if the rows are only for prediction.
        features: the names of the inputs; None uses all other columns.
        sample_weight: the name of the column with the weight of each row, as in `Trainer.fit`; None weighs all equally.
        block_rows: rows per block.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if a file is damaged, column names or types do not match, or pyarrow is missing.
    """

    suffixes = (".parquet",)
    reader = _ParquetReader


class Arrow(_Files):
    """Memory-mapped Arrow IPC (Feather) files. Otherwise as `Parquet`, with record batches instead of row groups.

    Args:
        path: a file; several files; or a folder with ``*.arrow`` or ``*.feather`` files, read in the order of their
            names.
        target: the name of the column to predict, or several names; None if the rows are only for prediction.
        features: the names of the inputs; None uses all other columns.
        sample_weight: the name of the column with the weight of each row, as in `Trainer.fit`; None weighs all equally.
        block_rows: rows per block.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if a file is damaged, column names or types do not match, or pyarrow is missing.
    """

    suffixes = (".arrow", ".feather")
    reader = _ArrowReader


def schema_names(kind: type[_Files], path: Path) -> list[str]:
    """Return the names of the columns of a file, or of the first file in a folder.

    Raises:
        DataError: if the file is damaged, the folder has no such files, or pyarrow is missing.
    """
    _pyarrow()
    source = object.__new__(kind)
    source._path = path
    with closing(source._opened(source._files()[0])) as opened:
        return list(opened.schema.names)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"Parquet and Arrow files need pyarrow, which is not installed; install: {pip_install('arrow')}"
        ) from error
    return pyarrow


def _categories_of_pandas(schema: Any) -> set[str]:
    """Return the names of the columns that were categories in pandas; Parquet itself only marks those of text."""
    try:
        columns = schema.pandas_metadata["columns"] if schema.pandas_metadata else []
        return {column["field_name"] for column in columns if column["pandas_type"] == "categorical"}
    except (ValueError, KeyError, TypeError):
        return set()  # metadata of another program, without information about the columns


def _kind(of: Any, name: str, path: Path, *, is_feature: bool) -> str:
    """Return "numbers", "text" or, for a feature only, "timestamps"."""
    types = _pyarrow().types
    if types.is_dictionary(of):
        return _kind(of.value_type, name, path, is_feature=is_feature)
    if is_feature and (types.is_timestamp(of) or types.is_date(of)):
        return "timestamps"
    if types.is_integer(of) or types.is_floating(of) or types.is_boolean(of) or types.is_decimal(of):
        return "numbers"
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        return "text"
    raise DataError(f"column {name!r} of {path} has type {of}; expected numbers or text: convert it or omit it")


def _values(column: Any, name: str, path: Path) -> np.ndarray:
    """Convert a column to NumPy: missing numbers are NaN, missing text is None."""
    pyarrow = _pyarrow()
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_decimal(column.type):
        column = column.cast(pyarrow.float64())
    if pyarrow.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pyarrow.uint8())
    return np.asarray(column.to_numpy(zero_copy_only=False))
