"""Batches from user code."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from gradflow.checks import positive_integer
from gradflow.data.frames import as_columns
from gradflow.data.sources import Block, check_same_rows
from gradflow.data.streams import BLOCK_ROWS, Stream
from gradflow.data.table import Table
from gradflow.data.validation import host_array
from gradflow.data.weights import checked_weights
from gradflow.data.where import Where
from gradflow.errors import DataError, shown


class Batches(Stream):
    """Pairs (x, y) of arrays or tables with any number of rows, from an iterable that can be restarted for each epoch.

    Batches are cut independently of the pairs. Rows are shuffled by blocks (`Stream`). If rows have weights, each item
    is (x, y, sample_weight). For prediction, y may be None.

    Args:
        iterable: a function without arguments that returns an iterator of pairs; or a list, or any other object that
            can be iterated over repeatedly. Every pass must give the same rows.
        rows: the number of rows in a pass. If omitted, they are counted in one pass before training.
        block_rows: rows per block.

    Raises:
        DataError: for an iterator, which can only be consumed once.
    """

    def __init__(
        self,
        iterable: Callable[[], Iterable[tuple[Any, ...]]] | Iterable[tuple[Any, ...]],
        *,
        rows: int | None = None,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        super().__init__(block_rows)
        if isinstance(iterable, Iterator):
            raise DataError(
                "an iterator yields its batches only once, but each epoch needs them again; pass the function that "
                "creates it"
            )
        if not callable(iterable) and not isinstance(iterable, Iterable):
            raise DataError(f"Batches needs a function that returns an iterator, got {type(iterable).__name__}")
        self._iterable = iterable
        self._items = 0
        self._target_shape: tuple[int, ...] | None = None
        self._rows = None if rows is None else positive_integer("rows", rows)

    def __len__(self) -> int:
        if self._rows is None:
            self._rows = sum(len(block) for block in self.blocks())
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        items = self._iterable() if callable(self._iterable) else self._iterable
        row = 0
        for number, item in enumerate(items):
            origin = f"batch {number} of the iterable"
            if not isinstance(item, tuple | list) or len(item) not in (2, 3):
                raise DataError(f"{origin} must be a pair (x, y), or (x, y, sample_weight), got {type(item).__name__}")
            self._items = self._items or len(item)
            if len(item) != self._items:
                with_weights, without = (origin, "the first one") if self._items == 2 else ("the first one", origin)
                raise DataError(
                    f"{with_weights} has sample weights, but {without} has none; pass them for all batches or none"
                )
            x, y = self._inputs_and_targets(number, row, *item[:2])
            where = Where(range(row, row + len(x)), x.names if isinstance(x, Table) else None)
            weight = None
            if len(item) == 3:
                name = f"sample_weight of batch {number} of the iterable"
                weight = checked_weights(name, host_array(name, item[2]), where)
            batch = Block(x, y, where, origin, weight)
            row += len(x)
            for start in range(0, len(x), self.block_rows):
                yield batch[start : start + self.block_rows]
        if row == 0:
            raise DataError("the iterable yielded no rows; at least 1 is needed")

    def _inputs_and_targets(self, number: int, row: int, x: Any, y: Any) -> tuple[np.ndarray | Table, np.ndarray]:
        x = as_columns(f"x of batch {number}", x)
        if not isinstance(x, Table):
            x = host_array(f"x of batch {number}", x)
        if y is None:
            y = np.empty((len(x) if isinstance(x, Table) or x.ndim else 0, 0))
        y = host_array(f"y of batch {number}", y)
        check_same_rows(f"x and y of batch {number} of the iterable", x, y)
        if self._target_shape is None:
            self._target_shape = y.shape[1:]
        if y.shape[1:] != self._target_shape:
            raise DataError(
                f"batch {number} of the iterable, rows {row} to {row + len(y) - 1}: the rows of y have shape "
                f"{y.shape[1:]}, but those of the first batch {self._target_shape}; they must match"
            )
        return x, y

    def __str__(self) -> str:
        return "the iterable"

    def __repr__(self) -> str:
        return f"Batches({shown(self._iterable)}, rows={self._rows}, block_rows={self.block_rows})"
