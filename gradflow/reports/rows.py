"""Rows of user data for the report: a sample that fits in memory, with the number of each row."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.classes import class_numbers
from gradflow.data.frames import plain_values
from gradflow.data.sources import Source
from gradflow.data.streams import StreamPart
from gradflow.data.table import Table, positions
from gradflow.data.validation import as_targets
from gradflow.data.where import Where
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError
from gradflow.network import Sequential, input_format

MOST_ROWS = 10_000


class SampledRows(NamedTuple):
    """Rows of user data.

    Attributes:
        x: the input columns.
        y: the targets, as they were given.
        numbers: the number of each row, or of each line of a text file, in its origin.
        total: the number of rows in the data.
        unit: what the numbers count: "row", from 0, or "line", from 1.
        targets: the names of the target columns; empty if they are unknown.
    """

    x: Table
    y: np.ndarray
    numbers: np.ndarray
    total: int
    unit: str = "row"
    targets: tuple[str, ...] = ()

    def sample(self, rows: int) -> SampledRows:
        """Return as many rows, chosen at random, in their order; all if there are no more."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.numbers))[:rows])
        return self._replace(x=self.x[chosen], y=self.y[chosen], numbers=self.numbers[chosen])


def rows_of(network: Sequential, name: str, data: Any) -> SampledRows:
    """Return up to `MOST_ROWS` rows of a pair (x, y) or a source, chosen at random.

    Raises:
        DataError: if the data is neither, or does not fit the network.
    """
    if not isinstance(data, Source) and not (isinstance(data, tuple | list) and len(data) == 2):
        raise DataError(f"{name} must be a pair (x, y) or a source, got {type(data).__name__}")
    draw = np.random.default_rng(0)
    kept: list[tuple[Table, np.ndarray, np.ndarray, np.ndarray]] = []
    total, unit = 0, "row"
    for x, y, where in _blocks(network, name, data):
        unit = where.unit
        kept.append((x, y, np.asarray(where.rows), draw.random(len(y))))
        total += len(y)
        if sum(len(part[1]) for part in kept) > 4 * MOST_ROWS:
            kept = [_smallest_keys(kept)]
    if not total:
        raise DataError(f"{name} has no rows; at least 1 is needed")
    table, y, numbers, _ = _smallest_keys(kept)
    while isinstance(data, StreamPart):
        data = data.whole
    return SampledRows(table, y, numbers, total, unit, tuple(getattr(data, "target", ())))


def _blocks(network: Sequential, name: str, data: Any) -> Generator[tuple[Table, np.ndarray, Where], None, None]:
    inputs = input_format(network)
    if not isinstance(data, Source):
        x = _table(inputs.select(f"{name} x", data[0]), network)
        y = as_targets(f"{name} y", plain_values(f"{name} y", data[1]), network.backend)
        if len(x) != len(y):
            raise DataError(f"{name} must have as many targets as rows of inputs, got {len(y)} and {len(x)}")
        yield x, _on_host(y), Where(range(len(y)))
        return
    with closing(data.blocks()) as blocks:
        for block in blocks:
            if len(block):
                yield _table(inputs.select(f"{name} x", block.x), network), block.y, block.where


def _table(x: Any, network: Sequential) -> Table:
    if isinstance(x, Table):
        return x
    return Table(tuple(_on_host(x).T), network.feature_names or positions(x.shape[1]))


def _on_host(array: Any) -> np.ndarray:
    on_host: np.ndarray = array.get() if hasattr(array, "__cuda_array_interface__") else array
    return on_host


def _smallest_keys(
    parts: list[tuple[Table, np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[Table, np.ndarray, np.ndarray, np.ndarray]:
    """Join parts, and keep the rows with the smallest random keys, in their order."""
    y, numbers, keys = (np.concatenate([part[place] for part in parts]) for place in (1, 2, 3))
    columns = tuple(map(np.concatenate, zip(*(part[0].columns for part in parts), strict=True)))
    first = parts[0][0]
    table = Table(columns, first.names, first.categories, first.unusable)
    chosen = np.sort(np.argsort(keys)[:MOST_ROWS])
    return table[chosen], y[chosen], numbers[chosen], keys[chosen]


def class_numbers_of(network: Sequential | Ensemble, y: np.ndarray) -> np.ndarray:
    """Return the class number of each row, for class names, class numbers, or a column of probabilities per class."""
    if y.ndim == 2 and y.shape[1] > 1:
        numbers: np.ndarray = y.argmax(axis=1)
    elif network.classes is not None:
        numbers = class_numbers("y", y, network.classes, Where(range(len(y))))
    else:
        numbers = np.rint(y.reshape(-1)).astype(np.int64)
    return numbers
