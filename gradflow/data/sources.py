"""What data are that stay where they lie: a source, which is read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

import numpy as np

from gradflow.data.table import Table
from gradflow.data.validation import Where
from gradflow.errors import DataError, GradflowError

__all__ = ["Block", "Conversion", "Converted", "Source", "check_same_rows", "equal_parts", "joined"]


@dataclass(frozen=True)
class Block:
    """Rows that were read together.

    Attributes:
        x: inputs, shape (rows, features), or their columns.
        y: targets of these rows.
        where: which rows these are, for errors.
        origin: the file that they came from; "" for arrays.
        sample_weight: the weight of each row, float64 (rows,), checked; None where they have none.
    """

    x: np.ndarray | Table
    y: np.ndarray
    where: Where
    origin: str = ""
    sample_weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> Block:
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Block(self.x[rows], self.y[rows], self.where[rows], self.origin, weight)

    def converted(self, convert: Conversion) -> Converted:
        """What a conversion makes of the rows.

        Raises:
            DataError: for rows that do not fit, with the file that they came from.
        """
        try:
            return convert(self)
        except DataError as error:
            if not self.origin:
                raise
            rows = self.where.rows
            raise DataError(f"{self.origin}, {self.where.unit}s {rows[0]} to {rows[-1]}: {error}") from error


Converted = tuple[np.ndarray, ...]
"""Inputs (rows, n_in) in the dtype of a network, targets as its loss takes them, and perhaps the weight of each row."""

Conversion = Callable[[Block], Converted]
"""Checks a block and converts it; raises a DataError that names row and column."""


class Source:
    """Rows that are too many for the device or for memory, or that shall not lie there.

    A subclass says how many there are, and reads them in the order of an epoch.
    """

    def __len__(self) -> int:
        raise GradflowError(f"{type(self).__name__} does not define __len__()")

    def blocks(self) -> Generator[Block, None, None]:
        """All rows once and in their order, as they come."""
        raise GradflowError(f"{type(self).__name__} does not define blocks()")

    def batches(
        self, convert: Conversion, *, rows: int, batch_size: int, first: int, seed: int | None, epochs: Iterable[int]
    ) -> Generator[Converted, None, None]:
        """The batches of some epochs, in their order.

        Args:
            convert: what each row goes through.
            rows: how many rows of an epoch to read; its last batch may be smaller than the others.
            batch_size: the rows of a batch.
            first: the row of the first epoch at which to begin.
            seed: of the shuffle, which it makes together with the epoch; None leaves the rows in their order.
            epochs: the numbers of the epochs, from 0. The next one is asked for as soon as it can be read, and may be
                asked for in another thread.

        Raises:
            DataError: for rows that do not fit, with their place; then no batch follows.
        """
        raise GradflowError(f"{type(self).__name__} does not define batches(...)")

    def looked_at(self) -> Generator[Block, None, None]:
        """The blocks that are checked before training, and that the fingerprint of a run is made of."""
        raise GradflowError(f"{type(self).__name__} does not define looked_at()")

    def sample(self) -> Block:
        """The first block, for the dtypes and shapes."""
        blocks = self.blocks()
        try:
            return next(blocks)
        finally:
            blocks.close()


def check_same_rows(names: str, x: np.ndarray | Table, y: np.ndarray) -> None:
    """Refuse inputs and targets of different numbers of rows.

    Raises:
        DataError: with the shapes.
    """
    shape = (len(x), len(x.columns)) if isinstance(x, Table) else x.shape
    if not shape or y.ndim == 0 or shape[0] != len(y):
        raise DataError(f"{names} must have the same number of rows, but x has shape {shape} and y {y.shape}")


def joined(parts: list[Converted]) -> Converted:
    """The rows of several parts, one behind the other."""
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))


def equal_parts(parts: Iterable[Converted], rows: int = 4096) -> Generator[Converted, None, None]:
    """The same rows in parts of so many, the last one perhaps smaller.

    Sums that are taken part by part then round alike, however a source cuts its blocks.
    """
    waiting: list[Converted] = []
    missing = rows
    for part in parts:
        place = 0
        while place < len(part[0]):
            piece = tuple(array[place : place + missing] for array in part)
            waiting.append(piece)
            place += len(piece[0])
            missing -= len(piece[0])
            if missing == 0:
                yield joined(waiting)
                waiting, missing = [], rows
    if waiting:
        yield joined(waiting)
