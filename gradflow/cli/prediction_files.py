"""Tables of predictions, written block by block as CSV or Parquet."""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import typer

from gradflow.cli.fitting import BROKEN_PIPE, give_up_closed_streams
from gradflow.data import CSV, Arrow, Parquet
from gradflow.data.any_file import FileSource
from gradflow.data.numpy_file import NumPyFile
from gradflow.errors import DataError
from gradflow.files import writing_atomically
from gradflow.installation import pip_install

_OTHER_SUFFIXES = (
    ".arrow", ".bz2", ".feather", ".gz", ".json", ".npy", ".npz", ".onnx", ".safetensors", ".xls", ".xlsx", ".xz",
    ".zst",
)  # fmt: skip
"""Suffixes under which nobody looks for CSV."""


class Writer(Protocol):
    """Writes rows, in order."""

    def write(self, columns: Sequence[Any]) -> None:
        """Write some rows, given by all their columns: lists or arrays of the same length."""

    def finish(self) -> None:
        """Write what remains."""


class CSVWriter:
    """Writes CSV with a header; numbers with as few digits as tell them apart.

    Args:
        file: the file.
        names: the names of the columns.
    """

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._write([names])

    def write(self, columns: Sequence[Any]) -> None:
        self._write(zip(*map(_as_text, columns), strict=True))

    def _write(self, rows: Any) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def finish(self) -> None:
        self._file.flush()


def _as_text(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values.astype(str)
    return values.to_pylist() if hasattr(values, "to_pylist") else values


class ParquetWriter:
    """Writes Parquet.

    Args:
        file: the file.
        names: the names of the columns.
    """

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file, self._names = file, list(names)
        self._writer: Any = None

    def write(self, columns: Sequence[Any]) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table(dict(zip(self._names, columns, strict=True)))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def writing(output: str, names: Sequence[str], *, overwrite: bool) -> Generator[Writer, None, None]:
    """Open a table for writing: "-" is standard output, as CSV; a file appears when the context ends without error.

    Raises:
        DataError: if pyarrow is missing, for Parquet.
        OSError: if the file cannot be written.
    """
    if output == "-":
        try:
            writer: Writer = CSVWriter(sys.stdout.buffer, names)
            yield writer
            writer.finish()
        except BrokenPipeError:
            give_up_closed_streams()
            raise typer.Exit(BROKEN_PIPE) from None
        except OSError as error:
            if error.filename is None:
                raise OSError(error.errno, error.strerror, "standard output") from error
            raise
        return
    with writing_atomically(output, overwrite=overwrite) as file:
        writer = ParquetWriter(file, names) if output.lower().endswith(".parquet") else CSVWriter(file, names)
        yield writer
        writer.finish()


def check_output(output: str, *, overwrite: bool) -> None:
    """Check before the work that a file can be written.

    Raises:
        DataError: if it exists and must not be replaced, or pyarrow is missing for it.
    """
    if output == "-":
        return
    suffix = Path(output).suffix.lower()
    if suffix in _OTHER_SUFFIXES:
        raise DataError(f"{output}: predictions are written as CSV, or as Parquet to a name ending in .parquet")
    if Path(output).is_dir():
        raise DataError(f"{output} is a folder; name a file in it")
    if Path(output).exists() and not overwrite:
        raise DataError(f"{output} already exists; pass another --output, or --overwrite to replace it")
    if output.lower().endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise DataError(
                f"Parquet needs pyarrow, which is not installed; install: {pip_install('arrow')}"
            ) from error


class KeptColumns:
    """The columns of a file as they are in it: fields of CSV files as text, with all their digits; other files typed.

    Args:
        source: the file.
        names: the names of the columns.
    """

    def __init__(self, source: FileSource, names: Sequence[str]) -> None:
        self._names, self._source, self._taken = list(names), source, 0
        self._fields = source.fields() if isinstance(source, CSV) else None
        self._places = [source.names.index(name) for name in names] if isinstance(source, CSV) else []
        self._batches = source.record_batches(self._names) if isinstance(source, Parquet | Arrow) else iter(())
        self._waiting: Any = None

    def take(self, rows: int) -> list[Any]:
        """Return the columns of the next rows."""
        if not self._names:
            return []
        self._taken += rows
        if isinstance(self._source, NumPyFile):
            return [self._source.values(name, slice(self._taken - rows, self._taken)) for name in self._names]
        if self._fields is not None:
            piece = list(itertools.islice(self._fields, rows))
            return [[fields[place] for fields in piece] for place in self._places]
        import pyarrow

        parts = [] if self._waiting is None else [self._waiting]
        while sum(map(len, parts)) < rows:
            parts.append(pyarrow.Table.from_batches([next(self._batches)]))
        table = pyarrow.concat_tables(parts)
        self._waiting = table.slice(rows)
        return [table.column(name).slice(0, rows).combine_chunks() for name in self._names]
