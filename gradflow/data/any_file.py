"""`open_file`: the source for a file of any kind that gradflow reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradflow.checks import file_path
from gradflow.data.arrow import Arrow, Parquet, schema_names
from gradflow.data.csv_file import CSV
from gradflow.data.numpy_file import NumPyFile, is_numpy_file, numpy_names
from gradflow.data.text_file import TextFile
from gradflow.errors import DataError

DELIMITERS = ",;\t|"
FileSource = CSV | Parquet | Arrow | NumPyFile
_KINDS: dict[str, type[Arrow | Parquet]] = {suffix: kind for kind in (Arrow, Parquet) for suffix in kind.suffixes}
_FIRST_BYTES: dict[bytes, type[Arrow | Parquet]] = {b"PAR1": Parquet, b"ARROW1": Arrow}


def open_file(
    path: str | os.PathLike[str],
    *,
    target: str | Sequence[str] | None,
    features: str | Sequence[str] | None = None,
    sample_weight: str | None = None,
    text: str | Sequence[str] = (),
    na_values: str | float | Sequence[str | float] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
) -> FileSource:
    """Return the source for a file: Parquet, Arrow or NumPy, by its first bytes or its suffix, or else CSV.

    The columns of an array are called "0", "1" and so on; an array (rows,) in a .npz is a column of its name. A folder
    is read as the files in it. The delimiter of a CSV file is found in its header, unless it is given.

    Args:
        path: the file or folder.
        target, features, sample_weight: names of columns, as in `CSV`.
        text: columns of a CSV file that are text; other files have types.
        na_values, delimiter, decimal, thousands, encoding: as in `CSV`, for CSV files only.

    Raises:
        FileNotFoundError: if there is no such file; it names similar ones.
        DataError: as the sources, and for options of CSV with other files.
    """
    path = existing(path)
    kind = kind_of(path)
    given = {"na_values": na_values, "delimiter": delimiter, "encoding": encoding}
    given |= {"decimal": decimal, "thousands": thousands}
    given = {name: value for name, value in given.items() if value is not None}
    if issubclass(kind, CSV):
        encoding = "utf-8" if encoding is None else encoding
        given["delimiter"] = sniffed_delimiter(path, encoding) if delimiter is None else delimiter
        options: dict[str, Any] = given
        return CSV(path, target=target, features=features, sample_weight=sample_weight, text=text, **options)
    if given:
        raise DataError(
            f"{path} is no text file, so {' and '.join(f'{name}=' for name in given)} has no meaning; omit it"
        )
    return kind(path, target=target, features=features, sample_weight=sample_weight)


def kind_of(path: Path) -> type[FileSource]:
    """Return the class of source for a file, by its first bytes or its suffix, or for a folder by the files in it."""
    if is_numpy_file(path):
        return NumPyFile
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(max(map(len, _FIRST_BYTES)))
        for first_bytes, kind in _FIRST_BYTES.items():
            if start.startswith(first_bytes):
                return kind
    suffixes = [file.suffix for file in sorted(path.iterdir())] if path.is_dir() else [path.suffix]
    return next((_KINDS[suffix.lower()] for suffix in suffixes if suffix.lower() in _KINDS), CSV)


def column_names(path: str | os.PathLike[str], *, delimiter: str | None = None, encoding: str = "utf-8") -> list[str]:
    """Return the names of all columns of a file, in order.

    Raises:
        FileNotFoundError, DataError: as `open_file`.
    """
    path = existing(path)
    kind = kind_of(path)
    if issubclass(kind, NumPyFile):
        return numpy_names(path)
    if not issubclass(kind, CSV):
        return schema_names(kind, path)
    header = _header(path, encoding)
    if not header.strip():
        raise DataError(f"{path} is empty; expected a header line, and one line per row")
    return next(csv.reader(io.StringIO(header), delimiter=delimiter or _delimiter_in(header)), [])


def sniffed_delimiter(path: Path, encoding: str = "utf-8") -> str:
    """Return the delimiter of a CSV file: the most frequent of comma, semicolon, tab and | in its header."""
    return _delimiter_in(_header(path, encoding))


def _delimiter_in(header: str) -> str:
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def _header(path: Path, encoding: str) -> str:
    """Return the first line that is not empty, with all lines of its quoted fields."""
    header = ""
    with TextFile(path, encoding).opened() as file:
        for line in file:
            header = header + line if header.strip() else line
            if header.strip() and header.count('"') % 2 == 0:
                return header
    return header


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder that exists.

    Raises:
        FileNotFoundError: if it does not; the message names similar files of the folder.
    """
    from gradflow.synonyms import meant_names  # only errors need it

    found = file_path("path", path)
    if found.exists():
        return found
    folder = found.parent
    others = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    meant = " or ".join(repr(str(folder / name)) for name in meant_names("file", found.name, others))
    suggestion = f". Did you mean {meant}?" if meant else ""
    raise FileNotFoundError(f"there is no file {str(found)!r}{suggestion}")
