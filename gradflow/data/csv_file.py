"""CSV files, read line by line."""

from __future__ import annotations

import copy
import csv
import numbers
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from gradflow.checks import file_path, sequence
from gradflow.checks import text as as_text
from gradflow.data.held_out import ColumnPiece
from gradflow.data.number_format import NumberFormat
from gradflow.data.sources import Block
from gradflow.data.streams import BLOCK_ROWS, Stream, columns_block, too_few, too_many
from gradflow.data.table import chosen_columns, columns_to_read, is_number, listed_names, number_in, only_target
from gradflow.data.text_file import TextFile
from gradflow.data.where import Where
from gradflow.errors import DataError, shown, unknown_name

_TYPED_ROWS = 4096
_PIECE_FIELDS = 65536
"""Fields held as Python strings at a time (about 5 MB): strings take many times the memory of numbers."""
_NA_VALUES = frozenset({
    "?", "-", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan",
    "null", "none",
})  # fmt: skip
"""The missing-value markers of pandas.read_csv, plus "?" and "-", in lower case."""


class CSV(Stream):
    """A text file with a header line and one line per row (RFC 4180: fields may be quoted).

    The file is read once before training, to count its rows and to check that all lines have the same number of fields.
    A column is numeric if all its fields in the first 4096 rows are numbers or missing; otherwise it is text, which
    needs preprocessing. Files compressed with gzip, bzip2, xz or (with pyarrow, the extra ``arrow``) zstd are read
    directly, whatever their names. Rows are shuffled by blocks (`Stream`).

    An empty field is a missing value. In numeric columns so are blanks and the usual markers: NA, N/A, NULL, None, NaN,
    "?", "-" and the others of pandas.read_csv, in upper or lower case. In text columns these are text, so Namibia's
    country code NA is kept.

    Args:
        path: the file.
        target: the name of the column to predict, or several names; None if the rows are only for prediction.
        features: the names of the inputs; None uses all other columns.
        sample_weight: the name of the column with the weight of each row, as in `Trainer.fit`; None weighs all equally.
        text: columns that are text even if they look like numbers, such as postcodes.
        na_values: texts and numbers that mark a missing value, such as ``["unknown", -999]``, in addition to the empty
            field; they apply to all columns, including text. ``()`` means none. None means the usual markers, in
            numeric columns only.
        delimiter: the character between two fields.
        decimal: the decimal point of numbers, "." or ",".
        thousands: the character between groups of three digits, as in "1,234"; None if numbers have none.
        encoding: the encoding of the file. A byte-order mark, which Excel writes, is skipped.
        block_rows: rows per block.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is of another kind or has no rows, a named column does not exist, or a line has too few
            or too many fields.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        target: str | Sequence[str] | None,
        features: str | Sequence[str] | None = None,
        sample_weight: str | None = None,
        text: str | Sequence[str] = (),
        na_values: str | float | Sequence[str | float] | None = None,
        delimiter: str = ",",
        decimal: str = ".",
        thousands: str | None = None,
        encoding: str = "utf-8",
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        super().__init__(block_rows)
        self._path, self._delimiter = file_path("path", path), _delimiter(delimiter)
        self._format = NumberFormat(decimal, thousands)
        self._na_values, self._na_numbers = _checked_na_values(na_values)
        self._file = TextFile(self._path, encoding)
        self._rows: int | None = None
        with closing(self._lines()) as lines:
            _, names = next(lines, (0, []))
        if not names:
            raise DataError(f"{path} is empty; expected a header line, and one line per row")
        self._names = tuple(names)
        if len(names) == 1 and (others := [mark for mark in ";\t|" if mark in names[0]]):
            raise DataError(
                f"{path}: the header line contains no {delimiter!r}, but {others[0]!r}; pass delimiter={others[0]!r}"
            )
        self.features, self.target = chosen_columns(str(path), names, features, target, sample_weight)
        self.sample_weight = sample_weight
        declared = sorted(text) if isinstance(text, set | frozenset) else text
        self._declared = frozenset(listed_names("text", declared))
        for name in self._declared - set(names):
            raise DataError(f"{path}: {unknown_name('column', name, names)}")
        self._text = self._columns_of_text()

    def _columns_of_text(self) -> set[str]:
        """Return the names of the text columns, judging by the first rows."""
        found = set(self._declared)
        rows = 0
        with closing(self._lines()) as lines:
            for _, fields in islice(lines, 1, 1 + _TYPED_ROWS):
                rows += 1
                for name, field in zip(self._names, fields, strict=True):
                    if name not in found and not (self._is_missing(field) or is_number(self._format.plain(field))):
                        found.add(name)
        if rows == 0:
            raise DataError(f"{self._path} has no rows; expected a header line and at least one row")
        return found

    def _is_missing(self, field: str) -> bool:
        """True if a field marks a missing number."""
        field = field.strip()
        return not field or (field.lower() in _NA_VALUES if self._na_values is None else field in self._na_values)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns of the file."""
        return self._names

    def __len__(self) -> int:
        if self._rows is None:
            self._rows = sum(1 for _ in self._lines()) - 1
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        return self._blocks(None)

    def read_chosen(self, chosen: np.ndarray, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        return self._blocks(chosen)

    def _blocks(self, chosen: np.ndarray | None) -> Generator[Block, None, None]:
        names = columns_to_read(self.features, self.target, self.sample_weight)
        wanted = [(name, self._names.index(name)) for name in names]
        rows = min(max(1, _PIECE_FIELDS // len(self._names)), self.block_rows)
        with closing(self._rows_of(chosen)) as lines:
            while piece := list(islice(lines, rows)):
                where = Where(np.array([number for number, _ in piece]), unit="line")
                columns = {
                    name: self._column(name, [fields[place] for _, fields in piece], where) for name, place in wanted
                }
                for name in self.target:
                    columns[name] = as_integers(columns[name])
                yield columns_block(
                    columns, self.features, self.target, self.sample_weight, where, str(self._path), self._declared
                )

    def _rows_of(self, chosen: np.ndarray | None) -> Generator[tuple[int, list[str]], None, None]:
        """Yield the lines of the chosen rows: converting the fields of the others would take most of the time."""
        with closing(self._lines()) as lines:
            next(lines)
            if chosen is None:
                yield from lines
                return
            read = 0
            for read, line in enumerate(lines, start=1):
                if read > len(chosen):
                    raise too_many(self, len(chosen))
                if chosen[read - 1]:
                    yield line
            if read < len(chosen):
                raise too_few(self, read, len(chosen))

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        name = only_target(str(self._path), self.target) if name is None else name
        if name not in self._names:
            raise DataError(f"{self._path}: {unknown_name('column', name, self._names)}")
        only = copy.copy(self)
        only.features, only.target, only.sample_weight = (name,), (), None
        yield from Stream.column(only, name)

    def target_blocks(self) -> Generator[Block, None, None]:
        only = copy.copy(self)
        only.features = ()
        yield from only.blocks()
        self._rows = only._rows

    def fields(self) -> Generator[list[str], None, None]:
        """Yield the fields of each row as they are in the file, in the order of its columns (`names`)."""
        with closing(self._lines()) as lines:
            next(lines)
            for _, fields in lines:
                yield fields

    def _lines(self) -> Generator[tuple[int, list[str]], None, None]:
        """Yield the line number and the fields of each nonempty line, including the header."""
        with self._file.opened() as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                yield from self._checked(reader)
            except csv.Error as error:
                raise DataError(f"{self._path}, line {reader.line_num + 1}: {error}") from error

    def _checked(self, reader: Any) -> Generator[tuple[int, list[str]], None, None]:
        width = None
        for fields in reader:
            if not fields:
                continue
            width = width or len(fields)
            if len(fields) != width:
                end = ", the last of them empty" if len(fields) > width and not fields[-1] else ""
                raise DataError(
                    f"{self._path}, line {reader.line_num}: expected {width} fields, as in the first line, got "
                    f"{len(fields)}{end}"
                )
            yield reader.line_num, fields

    def _column(self, name: str, fields: list[str], where: Where) -> np.ndarray:
        if name in self._text:
            missing = self._na_values or ()
            return np.array([None if not field or field.strip() in missing else field for field in fields], object)
        try:
            plain = fields if self._format.is_plain else list(map(self._format.plain, fields))
            if "_" in "".join(plain):
                raise ValueError(name)  # float accepts underscores in numbers
            values = np.array([float(field or "nan") for field in plain])
        except ValueError:
            values = np.array([self._number(name, field, place, where) for place, field in enumerate(fields)])
        values[np.isin(values, self._na_numbers)] = np.nan
        return values

    def _number(self, name: str, field: str, place: int, where: Where) -> float:
        if self._is_missing(field):
            return float("nan")
        try:
            return number_in(self._format.plain(field))
        except ValueError:
            raise DataError(
                f"{self._path}, {where.row(place)}: column {name!r} holds numbers further up, but {field!r} here; "
                "correct it, or add it to na_values= if it stands for a missing value, or add the column to text="
            ) from None

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"CSV({str(self._path)!r}, target={self.target!r}, features={self.features!r})"


def _checked_na_values(values: Any) -> tuple[frozenset[str] | None, list[float]]:
    """Return the texts that mark a missing value (None for the usual ones), and the numbers among them."""
    if values is None:
        return None, []
    if isinstance(values, str | numbers.Real):
        values = [values]
    texts = []
    for value in sequence("na_values", values, "a list of strings and numbers"):
        if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
            raise DataError(f"na_values must be a list of strings and numbers, but it holds {shown(value)}")
        texts.append(str(value).strip())
    return frozenset(texts), [number_in(text) for text in texts if is_number(text)]


def _delimiter(delimiter: str) -> str:
    if len(as_text("delimiter", delimiter)) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter must be a single character, such as ',' or '\\t', got {delimiter!r}")
    return delimiter


def as_integers(column: np.ndarray) -> np.ndarray:
    """Convert a column of whole numbers to integers, as labels must be; return other columns unchanged."""
    if column.dtype.kind == "f" and (np.trunc(column) == column).all() and (abs(column) < 2**53).all():
        return column.astype(np.int64)
    return column
