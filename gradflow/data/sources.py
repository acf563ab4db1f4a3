"""`Source`: data that is read batch by batch instead of being loaded up front."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.data.held_out import ColumnPiece, held_out_rows
from gradflow.data.table import Table
from gradflow.data.where import Where
from gradflow.errors import DataError, GradflowError, unknown_name


@dataclass(frozen=True)
class Block:
    """Rows that were read together.

    Attributes:
        x: inputs, shape (rows, features), or a table of columns.
        y: the targets of these rows.
        where: the rows' origin, for error messages.
        origin: the file that they came from; "" for arrays.
        sample_weight: the validated weight of each row, float64 (rows,); None if the rows have no weights.
        first: the number of the first row in the order of `Source.blocks`; only needed where `Stream.reorders`.
    """

    x: np.ndarray | Table
    y: np.ndarray
    where: Where
    origin: str = ""
    sample_weight: np.ndarray | None = None
    first: int | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice | np.ndarray) -> Block:
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Block(self.x[rows], self.y[rows], self.where[rows], self.origin, weight)

    def column(self, name: str | None) -> ColumnPiece:
        """Return a column of the inputs by its name, or the targets for None.

        Raises:
            DataError: if there is no such column, or there is not one target.
        """
        origin = f"{self.origin}: " if self.origin else ""
        if name is None:
            if self.y.ndim != 1 and self.y.shape[1:] != (1,):
                raise DataError(f"{origin}stratify=True needs one target, but the targets have shape {self.y.shape}")
            return ColumnPiece("y", self.y.reshape(-1), self.where, self.origin)
        if not isinstance(self.x, Table):
            raise DataError(f"{origin}x has no column {name!r}, but is an array; pass one value for each row instead")
        if name not in self.x.names:
            raise DataError(f"{origin}{unknown_name('column', name, self.x.names)}")
        return ColumnPiece(name, self.x.columns[self.x.names.index(name)], self.where, self.origin)

    def converted(self, convert: Conversion) -> Converted:
        """Apply a conversion to the rows.

        Raises:
            DataError: for invalid rows, naming the file that they came from.
        """
        try:
            return convert(self)
        except DataError as error:
            if not self.origin:
                raise
            rows = self.where.rows
            raise DataError(f"{self.origin}, {self.where.unit}s {rows[0]} to {rows[-1]}: {error}") from error


Converted = tuple[np.ndarray, ...]
"""Inputs (rows, n_in) in the network's dtype, targets as the loss takes them, and optionally the weight of each row."""

Conversion = Callable[[Block], Converted]
"""Validates and converts a block; raises a DataError that names row and column."""


class Source:
    """Data that does not fit on the device or in memory, or should not be kept there.

    A subclass defines the number of rows, and reads them in the order of an epoch.
    """

    def __len__(self) -> int:
        raise GradflowError(f"{type(self).__name__} does not define __len__()")

    def blocks(self) -> Generator[Block, None, None]:
        """Yield all rows once, in order, in blocks of any size."""
        raise GradflowError(f"{type(self).__name__} does not define blocks()")

    @property
    def targets_take_a_pass(self) -> bool:
        """True if a pass over the targets costs about as much as one over all rows, and is not needed otherwise."""
        return True

    def target_blocks(self) -> Generator[Block, None, None]:
        """Yield all targets and weights once, in order; a source may leave out the inputs, if that is faster."""
        return self.blocks()

    def batches(
        self, convert: Conversion, *, rows: int, batch_size: int, first: int, seed: int | None, epochs: Iterable[int]
    ) -> Generator[Converted, None, None]:
        """Yield the batches of the given epochs, in order.

        Args:
            convert: the conversion applied to all rows.
            rows: the number of rows to read in each epoch; the last batch may be smaller than the others.
            batch_size: rows per batch.
            first: the row of the first epoch at which to start.
            seed: the seed that, together with the epoch, determines the shuffle; None keeps the order of the rows.
            epochs: the epoch numbers, from 0. The iterator is advanced as soon as the next epoch can be read, possibly
                in another thread.

        Raises:
            DataError: for invalid rows, with their position; no batch follows.
        """
        raise GradflowError(f"{type(self).__name__} does not define batches(...)")

    def looked_at(self) -> Generator[Block, None, None]:
        """Yield the blocks that are checked before training and that make up the fingerprint of a run."""
        raise GradflowError(f"{type(self).__name__} does not define looked_at()")

    def sample(self) -> Block:
        """Return the first block, for its dtypes and shapes."""
        with closing(self.blocks()) as blocks:
            return next(blocks)

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        """Yield a column of all rows in order, or the targets for None.

        Raises:
            DataError: if there is no such column, or there is not one target.
        """
        with closing(self.blocks()) as blocks:
            for block in blocks:
                yield block.column(name)

    def split(
        self,
        *,
        validation_fraction: float = 0.2,
        seed: int = 0,
        stratify: Any = None,
        group: Any = None,
        time: Any = None,
    ) -> tuple[Source, Source]:
        """Split the rows into two sources, one for training and one for validation, each with its rows in order.

        The rows stay where they are. The choice depends only on the arguments and on the rows, not on how they are read
        in blocks. Exactly the nearest integer to ``validation_fraction`` · rows are held out, but at least one and not
        all, except by group and by time. The parts can be split again.

        Args:
            validation_fraction: the fraction of rows to hold out, above 0 and below 1.
            seed: determines the choice; with ``time`` it has no effect.
            stratify: hold out the same fraction of each class, within one row, and of each class at least one row where
                possible: True for the classes of the target, or a column with classes.
            group: keep all rows with the same value of this column on one side. Groups are drawn at random, and then
                exchanged as long as that comes nearer to the wanted number of rows.
            time: hold out the last rows by this column: numbers, dates, or text in ISO 8601. Rows of the same time are
                kept on one side, the one that comes nearer to the wanted number of rows.

        A column is given by its name, which need not be a feature, or as an array with one value for each row. Columns
        are read in one pass. A byte per row is kept for each part (8 for arrays), and about 40 while rows are chosen by
        a column.

        Raises:
            DataError: if the fraction is out of range, the column does not exist or lacks values, a class has one row,
                or all rows have the same group or time.
        """
        return self._divided(
            held_out_rows(
                len(self),
                self.column,
                validation_fraction=validation_fraction,
                seed=seed,
                stratify=stratify,
                group=group,
                time=time,
            )
        )

    def _divided(self, held_out: np.ndarray) -> tuple[Source, Source]:
        """Return the rows that are not held out, and those that are."""
        raise GradflowError(f"{type(self).__name__} cannot be split; a subclass of gradflow.data.streams.Stream can")


def check_same_rows(names: str, x: np.ndarray | Table, y: np.ndarray) -> None:
    """Check that inputs and targets have the same number of rows.

    Raises:
        DataError: if not, with the shapes.
    """
    shape = (len(x), len(x.columns)) if isinstance(x, Table) else x.shape
    if not shape or y.ndim == 0 or shape[0] != len(y):
        raise DataError(f"{names} must have the same number of rows, but x has shape {shape} and y {y.shape}")


def joined(parts: list[Converted]) -> Converted:
    """Concatenate the rows of several parts."""
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))


def equal_parts(parts: Iterable[Converted], rows: int = 4096) -> Generator[Converted, None, None]:
    """Regroup the parts into parts of ``rows`` rows; the last one may be smaller.

    This makes the rounding of chunked sums independent of the block sizes of a source.
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
