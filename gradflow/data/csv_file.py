"""CSV files, read line by line."""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from gradflow.data.sources import Block
from gradflow.data.streams import BLOCK_ROWS, Stream, columns_block
from gradflow.data.table import chosen_columns, columns_to_read, is_number
from gradflow.data.validation import Where
from gradflow.errors import DataError

__all__ = ["CSV"]

_TYPED_ROWS = 4096
_PIECE_FIELDS = 65536
"""How many fields are held as Python's strings, which take many times the memory of numbers: some 5 MB."""


class CSV(Stream):
    """A text file with a line of names, and then one line per row (RFC 4180: fields may be quoted).

    The file is read once before training, to count its rows and to see that all lines have as many fields. A column
    holds numbers if all its fields in the first 4096 rows are numbers or empty, else text, which a preprocessing takes.
    An empty field is a missing value. Rows shuffle by blocks (`Stream`).

    Args:
        path: the file.
        target: the name of the column to predict, or several names.
        features: the names of the inputs; None takes all other columns.
        sample_weight: the name of the column with the weight of each row, as in `Trainer.fit`; None weighs all alike.
        text: columns that are text even if they look like numbers, such as postcodes.
        delimiter: what stands between two fields.
        encoding: of the file.
        block_rows: the rows of a block.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: for a file without rows, names that it does not have, or a line with too few or too many fields.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        target: str | Sequence[str],
        features: Sequence[str] | None = None,
        sample_weight: str | None = None,
        text: Sequence[str] = (),
        delimiter: str = ",",
        encoding: str = "utf-8",
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        super().__init__(block_rows)
        self._path, self._delimiter, self._encoding = Path(path), delimiter, encoding
        self._rows: int | None = None
        lines = self._lines()
        _, names = next(lines, (0, []))
        if not names:
            raise DataError(f"{path} is empty; expected a line of names, and one line per row")
        self._names = tuple(names)
        self.features, self.target = chosen_columns(str(path), names, features, target, sample_weight)
        self.sample_weight = sample_weight
        self._text = set(text)
        first = [fields for _, fields in islice(lines, 1)]
        if not first:
            raise DataError(f"{path} has no rows; expected a line of names and at least one row")
        for fields in (*first, *(fields for _, fields in islice(lines, _TYPED_ROWS - 1))):
            self._text.update(name for name, field in zip(names, fields, strict=True) if field and not is_number(field))

    def __len__(self) -> int:
        if self._rows is None:
            self._rows = sum(1 for _ in self._lines()) - 1
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        lines = islice(self._lines(), 1, None)
        names = columns_to_read(self.features, self.target, self.sample_weight)
        wanted = [(name, self._names.index(name)) for name in names]
        rows = min(max(1, _PIECE_FIELDS // len(self._names)), self.block_rows)
        while piece := list(islice(lines, rows)):
            numbers = np.array([number for number, _ in piece])
            where = Where(numbers, unit="line")
            columns = {
                name: self._column(name, [fields[place] for _, fields in piece], where) for name, place in wanted
            }
            for name in self.target:
                columns[name] = _as_integers(columns[name])
            yield columns_block(columns, self.features, self.target, self.sample_weight, where, str(self._path))

    def _lines(self) -> Generator[tuple[int, list[str]], None, None]:
        """The fields of each line that is not empty, and the line's number, that of names included."""
        with open(self._path, newline="", encoding=self._encoding) as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            width = None
            try:
                for fields in reader:
                    if not fields:
                        continue
                    width = width or len(fields)
                    if len(fields) != width:
                        raise DataError(
                            f"{self._path}, line {reader.line_num}: expected {width} fields, as in the first line, got "
                            f"{len(fields)}"
                        )
                    yield reader.line_num, fields
            except csv.Error as error:
                raise DataError(f"{self._path}, line {reader.line_num + 1}: {error}") from error
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self._path}, line {self._undecodable_line()}: this is no text in {self._encoding}, for "
                    f"{error.reason}; pass encoding=, or save the file anew"
                ) from error

    def _undecodable_line(self) -> int:
        """The number of the first line that is no text, or of the last one, if the file ends within a character."""
        decoder, lines = codecs.getincrementaldecoder(self._encoding)(), 0
        with open(self._path, "rb") as file:
            for line in file:
                lines += 1
                try:
                    decoder.decode(line)
                except UnicodeDecodeError:
                    break
        return lines

    def _column(self, name: str, fields: list[str], where: Where) -> np.ndarray:
        if name in self._text:
            return np.array([field or None for field in fields], object)
        try:
            return np.array([float(field or "nan") for field in fields])
        except ValueError:
            place = next(place for place, field in enumerate(fields) if field and not is_number(field))
            raise DataError(
                f"{self._path}, {where.row(place)}: column {name!r} holds numbers further up, but here "
                f"{fields[place]!r}; mend it, or name the column in text="
            ) from None

    def __repr__(self) -> str:
        return str(self._path)


def _as_integers(column: np.ndarray) -> np.ndarray:
    """Whole numbers as integers, since labels are; other columns as they are."""
    if column.dtype.kind == "f" and (np.trunc(column) == column).all() and (abs(column) < 2**53).all():
        return column.astype(np.int64)
    return column
