"""`Loaded`: the rows of a file in memory, read once, with any of its columns as inputs and targets."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from gradflow.data.csv_file import as_integers
from gradflow.data.held_out import ColumnPiece
from gradflow.data.sources import Block
from gradflow.data.streams import Stream, columns_block
from gradflow.data.table import Table, chosen_columns
from gradflow.errors import DataError, unknown_name


class Loaded(Stream):
    """The rows of another source, which are kept in memory as they were read. Otherwise as a file with these rows.

    Errors name the file and the line. `with_columns` chooses other inputs and targets without reading again.

    Args:
        source: a file, opened with ``target=None``: all columns that may be needed are its inputs.
    """

    def __init__(self, source: Stream) -> None:
        super().__init__(source.block_rows)
        self._blocks = [block for block in source.blocks() if len(block)]
        if not self._blocks or not isinstance(self._blocks[0].x, Table):
            raise DataError(f"{source} has no rows with named columns to load")
        self._rows: int = sum(map(len, self._blocks))
        self._names = self._blocks[0].x.names
        self._origin = str(source)
        self.features: tuple[str, ...] = self._names
        self.target: tuple[str, ...] = ()
        self.sample_weight: str | None = None

    def with_columns(
        self, *, target: str | Sequence[str] | None, features: Sequence[str] | None, sample_weight: str | None
    ) -> Loaded:
        """Return the same rows with other columns as inputs, targets and weights; arguments as for `CSV`.

        Raises:
            DataError: for unknown columns, and for a column that is both an input and a target.
        """
        other = object.__new__(Loaded)
        vars(other).update(vars(self))
        other.features, other.target = chosen_columns(self._origin, self._names, features, target, sample_weight)
        other.sample_weight = sample_weight
        return other

    def __len__(self) -> int:
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        for block in self._blocks:
            assert isinstance(block.x, Table)
            columns = dict(zip(self._names, block.x.columns, strict=True))
            columns |= {name: as_integers(columns[name]) for name in self.target}
            yield columns_block(
                columns,
                self.features,
                self.target,
                self.sample_weight,
                block.where,
                block.origin,
                block.x.categories & frozenset(self.features),
                {name: reason for name, reason in block.x.unusable.items() if name in self.features},
            )

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        if name is not None and name not in self._names:
            raise DataError(f"{self._origin}: {unknown_name('column', name, self._names)}")
        for whole, block in zip(self._blocks, self.read(seed=None, epoch=0), strict=True):
            yield block.column(None) if name is None else whole.column(name)

    def __str__(self) -> str:
        return self._origin

    def __repr__(self) -> str:
        return f"Loaded({self._origin!r}, target={self.target!r}, features={self.features!r})"


def joined_rows(source: Stream) -> tuple[Table, np.ndarray, np.ndarray | None]:
    """Return all rows of a source of named columns in memory: inputs, targets and weights."""
    blocks = [block for block in source.blocks() if len(block)]
    tables = [block.x for block in blocks if isinstance(block.x, Table)]
    columns = tuple(map(np.concatenate, zip(*(table.columns for table in tables), strict=True)))
    x = Table(columns, tables[0].names, tables[0].categories, tables[0].unusable)
    weights = [block.sample_weight for block in blocks if block.sample_weight is not None]
    return x, np.concatenate([block.y for block in blocks]), np.concatenate(weights) if weights else None
