"""What data are that stay where they lie: a source, which is read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from gradflow.data.table import Table
from gradflow.data.validation import Where
from gradflow.errors import GradflowError

__all__ = ["Block", "Conversion", "Converted", "Source"]


@dataclass(frozen=True)
class Block:
    """Rows that were read together.

    Attributes:
        x: inputs, shape (rows, features), or their columns.
        y: targets of these rows.
        where: which rows these are, for errors.
        origin: the file that they came from; "" for arrays.
    """

    x: np.ndarray | Table
    y: np.ndarray
    where: Where
    origin: str = ""

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> Block:
        return Block(self.x[rows], self.y[rows], self.where[rows], self.origin)


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
        self, convert: Conversion, *, rows: int, batch_size: int, first: int, seed: int | None, epoch: int
    ) -> Generator[Converted, None, None]:
        """The batches of an epoch, in their order.

        Args:
            convert: what each row goes through.
            rows: how many rows of the epoch to read; the last batch may be smaller than the others.
            batch_size: the rows of a batch.
            first: the row of the epoch at which to begin.
            seed: of the shuffle, which it makes together with ``epoch``; None leaves the rows in their order.
            epoch: the number of the epoch, from 0.

        Raises:
            DataError: for rows that do not fit, with their place; then no batch follows.
        """
        raise GradflowError(f"{type(self).__name__} does not define batches(...)")

    def check(self, convert: Conversion) -> None:
        """Refuse data that do not fit, as far as that is known before training."""
        convert(self.sample())

    def sample(self) -> Block:
        """The first block, for the dtypes and shapes."""
        blocks = self.blocks()
        try:
            return next(blocks)
        finally:
            blocks.close()
