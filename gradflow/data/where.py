"""`Where`: the origin of rows, for error messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Where:
    """The origin of an array's rows, for error messages.

    Attributes:
        rows: the number of each row in its origin, counted from 0; or of each line, counted from 1.
        columns: the names of the columns, if they have names.
        unit: "row" or "line".
    """

    rows: Sequence[int] | np.ndarray
    columns: Sequence[str] | None = None
    unit: str = "row"

    def __getitem__(self, rows: slice | np.ndarray) -> Where:
        chosen = self.rows[rows] if isinstance(rows, slice) else np.asarray(self.rows)[rows]
        return Where(chosen, self.columns, self.unit)

    def row(self, place: int) -> str:
        """The name of a row: "row 7"."""
        return f"{self.unit} {self.rows[place]}"

    def cell(self, place: int, column: int) -> str:
        """The name of an element: "row 7, column 2"."""
        return f"{self.row(place)}, column {column if self.columns is None else repr(self.columns[column])}"
