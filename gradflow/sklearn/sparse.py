"""Sparse matrices, made dense batch by batch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from gradflow.data.arrays import Arrays
from gradflow.data.sources import Block
from gradflow.data.where import Where

DENSE_BYTES = 1 << 26
"""A matrix that takes no more memory than this is made dense as a whole: its batches are then ready at once."""
_BLOCK_BYTES = 1 << 22


def is_sparse(x: Any) -> bool:
    """True for a sparse matrix or array."""
    return hasattr(x, "toarray")


def dense_if_small(x: Any) -> Any:
    """Return an array for a small sparse matrix, a large one by rows (CSR), and anything else unchanged."""
    if not is_sparse(x):
        return x
    return x.toarray() if x.shape[0] * x.shape[1] * x.dtype.itemsize <= DENSE_BYTES else x.tocsr()


def row_blocks(x: Any) -> Generator[np.ndarray, None, None]:
    """Yield the rows of a sparse matrix, dense, a few megabytes at a time."""
    rows = max(1, _BLOCK_BYTES // max(x.shape[1] * x.dtype.itemsize, 1))
    for start in range(0, x.shape[0], rows):
        yield x[start : start + rows].toarray()


class SparseRows(Arrays):
    """Rows of a sparse matrix as training data; the batches are those of the dense one.

    Args:
        x: the matrix (rows, n_in), by rows (CSR).
        y: the targets, (rows,) or (rows, n_out).
        sample_weight: the weight of each row, (rows,), or None.
    """

    def __init__(self, x: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
        super().__init__(y, y, sample_weight)  # for the checks of targets and weights
        self._matrix = x

    @property
    def row_bytes(self) -> int:
        return max(1, int(self._matrix.shape[1] * self._matrix.dtype.itemsize))

    def _without_inputs(self) -> Arrays:
        return Arrays(np.empty((len(self), 0)), self.y, self.sample_weight)

    def _rows(self, rows: range | np.ndarray) -> Block:
        place = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        weight = None if self.sample_weight is None else self.sample_weight[place].astype(np.float64)
        return Block(self._matrix[place].toarray(), self.y[place], Where(rows), "", weight)
