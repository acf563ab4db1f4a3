"""`split`, which holds out rows of arrays and tables in memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from gradflow.data.frames import as_columns, check_dense, is_lazy
from gradflow.data.held_out import ColumnPiece, held_out_rows
from gradflow.data.sources import Block, Source
from gradflow.data.validation import host_array
from gradflow.data.where import Where
from gradflow.errors import DataError, shown


def split(
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    validation_fraction: float = 0.2,
    seed: int = 0,
    stratify: Any = None,
    group: Any = None,
    time: Any = None,
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays or tables in memory into those for training and those for validation: ``(x, y), (x, y)``.

    The rows are those that `Source.split` chooses, which describes the arguments. They are copied, stay in order, and
    keep their type: a pandas table gives pandas tables. With ``sample_weight`` each part has three items.

    Args:
        x: inputs: an array (rows, n_in); a pandas, polars or pyarrow table; or a dict of columns.
        y: the targets: an array or column with one item for each row.
        sample_weight: the weight of each row, shape (rows,), or None.
        validation_fraction: the fraction of rows to hold out, above 0 and below 1.
        seed: determines the choice.
        stratify: True for the classes in ``y``, or a column, to hold out the same fraction of each class.
        group: a column; rows with the same value stay on one side.
        time: a column; the last rows are held out.

    Raises:
        DataError: if the numbers of rows differ, or as `Source.split`.
    """
    if isinstance(x, Source):
        raise DataError("x is a source, whose rows stay where they are: training, validation = x.split(...)")
    x = x.collect() if is_lazy(x) else x
    given = {"x": x, "y": y} | ({} if sample_weight is None else {"sample_weight": sample_weight})
    given = {name: _with_rows(name, value) for name, value in given.items()}
    lengths = {name: _length(name, value) for name, value in given.items()}
    rows = lengths["x"]
    if set(lengths.values()) != {rows}:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"all must have the same number of rows, but their numbers are: {listed}")

    def column(name: str | None) -> Generator[ColumnPiece, None, None]:
        where = Where(range(rows))
        inputs = np.empty((rows, 0)) if name is None else as_columns("x", x)
        targets = y.get() if hasattr(y, "__cuda_array_interface__") and hasattr(y, "get") else y
        yield Block(inputs, host_array("y", targets) if name is None else np.empty(rows), where).column(name)

    held_out = held_out_rows(
        rows, column, validation_fraction=validation_fraction, seed=seed, stratify=stratify, group=group, time=time
    )
    parts = [np.flatnonzero(~held_out), np.flatnonzero(held_out)]
    training, validation = (tuple(rows_of(value, places) for value in given.values()) for places in parts)
    return training, validation


def _with_rows(name: str, value: Any) -> Any:
    """Return a value from which rows can be taken by number: itself, or an array."""
    check_dense(name, value)
    has_rows = hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")
    return value if has_rows else host_array(name, value)


def _length(name: str, value: Any) -> int:
    value = as_columns(name, value) if isinstance(value, Mapping) else value
    try:
        return len(value)
    except TypeError:
        raise DataError(f"{name} must be an array or a table with one item for each row, got {shown(value)}") from None


def rows_of(value: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array, a column or a table, in its type."""
    if isinstance(value, Mapping):
        return {name: rows_of(column, rows) for name, column in value.items()}
    if isinstance(value, list | tuple):
        return [value[row] for row in rows]
    if hasattr(type(value), "iloc"):  # pandas
        return value.iloc[rows]
    if hasattr(type(value), "to_pylist"):  # pyarrow
        return value.take(rows)
    return value[rows]
