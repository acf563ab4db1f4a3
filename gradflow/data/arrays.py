"""Arrays that stay in host memory, or in the ``.npy`` file that they are mapped from."""

from __future__ import annotations

import copy
import mmap
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np

from gradflow.data.frames import as_columns
from gradflow.data.sources import Block, Conversion, Converted, Source, check_same_rows
from gradflow.data.table import Table
from gradflow.data.validation import host_array
from gradflow.data.weights import checked_weights
from gradflow.data.where import Where
from gradflow.errors import DataError
from gradflow.random import shuffle

_BLOCK_BYTES = 2**22
_PLACES = 16384
"""Shuffle positions computed at a time: computing them for each batch would cost a hundred NumPy calls a batch."""


class Arrays(Source):
    """Inputs and targets that are never copied as a whole, neither to the device nor in memory.

    Batches are bit-identical to those of the same arrays on the device. `Trainer.fit` creates this source automatically
    for memory-mapped arrays (``np.load(path, mmap_mode="r")``), and for arrays that do not fit on the device.

    Args:
        x: inputs, shape (rows, n_in): a NumPy array, or an object in host memory with ``__array__`` or DLPack; or
            columns by name, as for `Trainer.fit`.
        y: targets, in the shape that the loss takes; accepted types as for x. None if the rows are only for prediction.
        sample_weight: the weight of each row as in `Trainer.fit`, shape (rows,); None weighs all rows equally.

    Raises:
        DataError: if these are not such arrays, or the numbers of rows differ.
    """

    def __init__(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        table = as_columns("x", x)
        self.x = table if isinstance(table, Table) else host_array("x", x)
        self.y = np.empty((len(self), 0)) if y is None else host_array("y", y)
        self.sample_weight = None if sample_weight is None else host_array("sample_weight", sample_weight)
        check_same_rows("x and y", self.x, self.y)
        if len(self.x) == 0:
            raise DataError("x has no rows; at least 1 is needed")
        if self.sample_weight is not None and self.sample_weight.shape != (len(self),):
            raise DataError(
                f"sample_weight must have shape ({len(self)},), one weight for each row, got {self.sample_weight.shape}"
            )

        files = [file for array in (self.x, self.y) if isinstance(array, np.ndarray) and (file := _mapped_file(array))]
        self._origin = " and ".join(dict.fromkeys(files))

    def __len__(self) -> int:
        return len(self.x) if isinstance(self.x, Table) or self.x.ndim else 0

    @property
    def row_bytes(self) -> int:
        """The bytes of a row, at least 1."""
        return max(1, (self.x.nbytes + self.y.nbytes) // len(self.x))

    def blocks(self) -> Generator[Block, None, None]:
        rows = max(1, _BLOCK_BYTES // self.row_bytes)
        for start in range(0, len(self), rows):
            yield self._rows(range(start, min(start + rows, len(self))))

    @property
    def targets_take_a_pass(self) -> bool:
        return False

    def target_blocks(self) -> Generator[Block, None, None]:
        return self._without_inputs().blocks()

    def _without_inputs(self) -> Arrays:
        only = copy.copy(self)
        only.x = np.empty((len(self), 0))
        return only

    def looked_at(self) -> Generator[Block, None, None]:
        """Yield all rows, a few megabytes at a time."""
        return self.blocks()

    def batches(
        self, convert: Conversion, *, rows: int, batch_size: int, first: int, seed: int | None, epochs: Iterable[int]
    ) -> Generator[Converted, None, None]:
        together = max(1, _PLACES // batch_size) * batch_size
        for epoch in epochs:
            for begin in range(first, rows, together):
                places = range(begin, min(begin + together, rows))
                order = places if seed is None else shuffle(np.array(places), len(self), seed=seed, epoch=epoch)
                for start in range(0, len(order), batch_size):
                    yield convert(self._rows(order[start : start + batch_size]))
            first = 0

    def _rows(self, rows: range | np.ndarray) -> Block:
        place = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        where = Where(rows)
        weight = None
        if self.sample_weight is not None:
            weight = checked_weights("sample_weight", self.sample_weight[place], where)
        return Block(self.x[place], self.y[place], where, self._origin, weight)

    def _divided(self, held_out: np.ndarray) -> tuple[Arrays, Arrays]:
        return ArraysPart(self, np.flatnonzero(~held_out)), ArraysPart(self, np.flatnonzero(held_out))


class ArraysPart(Arrays):
    """Some rows of arrays, as `Source.split` chooses them. Otherwise as `Arrays` of these rows alone.

    Args:
        whole: all rows.
        chosen: the numbers of the rows that belong to the part, in order.
    """

    def __init__(self, whole: Arrays, chosen: np.ndarray) -> None:
        self.whole, self._chosen = whole, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def row_bytes(self) -> int:
        return self.whole.row_bytes

    def _rows(self, rows: range | np.ndarray) -> Block:
        return self.whole._rows(self._chosen[slice(rows.start, rows.stop) if isinstance(rows, range) else rows])

    def _without_inputs(self) -> Arrays:
        return ArraysPart(self.whole._without_inputs(), self._chosen)

    def _divided(self, held_out: np.ndarray) -> tuple[Arrays, Arrays]:
        chosen = self._chosen
        return ArraysPart(self.whole, chosen[~held_out]), ArraysPart(self.whole, chosen[held_out])


def _mapped_file(array: np.ndarray) -> str:
    """Return the file that backs an array or the array it is a view of; "" if it is not memory-mapped."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.filename is not None:
            return str(base.filename)
        base = base.base
    return ""


def is_memory_mapped(value: object) -> bool:
    """True if an array is backed by a file: the result of ``np.load(path, mmap_mode="r")``, or a view of it."""
    while isinstance(value, np.ndarray):
        if isinstance(value, np.memmap):
            return True
        value = value.base
    return isinstance(value, mmap.mmap)
