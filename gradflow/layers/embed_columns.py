"""Embeddings of categories: a learned vector for each (Bengio, Ducharme & Vincent, 2000).

References:
    Y. Bengio, R. Ducharme & P. Vincent, "A neural probabilistic language model", NIPS (2000).
    C. Guo & F. Berkhahn, "Entity embeddings of categorical variables", arXiv:1604.06737 (2016).
    M. Ott et al., "fairseq: A fast, extensible toolkit for sequence modeling", NAACL (2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.checks import integer, positive_integer, sequence
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.initializers import Initializer, checked_initializer, initial_weight
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.ops import Array, clear, op
from gradflow.random import RandomNumbers

MOST_CATEGORIES = 2**24
"""float32 holds every whole number up to this one."""
_ROWS_AT_A_TIME = 1024
"""Each row looks for its category among these, which takes time proportional to their square."""


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name in ("x", "y", "d_y"):
        if name in arguments:
            found["rows"], found[f"{name.removeprefix('d_')}_columns"] = arguments[name].shape
    for name in ("table", "d_table"):
        if name in arguments:
            found["categories"], found["size"] = arguments[name].shape
    return found


@op(shapes="x: rows x_columns; y: rows y_columns", writes=("y",), sizes=_sizes)
def leading_columns(x: Array, y: Array, count: int) -> None:
    """y_ij = x_ij in the first columns, as many as count, and 0 in the others"""
    y[:, :count] = x[:, :count]
    y[:, count:] = 0


@op(
    shapes="x: rows x_columns; table: categories size; numbers: rows; y: rows y_columns",
    writes=("numbers", "y"),
    sizes=_sizes,
)
def embed_column(x: Array, table: Array, numbers: Array | None, y: Array, column: int, first: int) -> None:
    """y_i,first.. = table_k, for the category k = x_i,column, clipped to those of the table; numbers_i = k"""
    given = np.nan_to_num(x[:, column].astype(np.float64), nan=0.0)
    found = np.clip(given, 0, len(table) - 1).astype(np.int32)
    y[:, first : first + table.shape[1]] = table[found]
    if numbers is not None:
        numbers[...] = found


# The dimension is not named `rows`: a row of this op reads later rows of the batch.
@op(shapes="numbers: batch; d_y: batch y_columns; d_table: categories size", writes=("d_table",), sizes=_sizes)
def embed_column_gradient(numbers: Array, d_y: Array, d_table: Array, first: int) -> None:
    """dL/dtable_k += Σ dL/dy_i,first.. over the rows i of category k, in float64 until the end"""
    sums = np.zeros(d_table.shape)
    np.add.at(sums, numbers, d_y[:, first : first + d_table.shape[1]].astype(np.float64))
    d_table += sums.astype(d_table.dtype)


class EmbedColumns(Layer):
    """Replace the numbers of categories by learned vectors, for x of shape (batch, n_in).

    The last columns of x, one for each table, hold category numbers: 0, 1, ..., below the number of rows of their
    table. y has shape (batch, n_out): first the other columns, unchanged, then the vector of each category,

        y_i = (x_i1, ..., x_ip, table_0[k_i0], table_1[k_i1], ...),          n_out = p + Σ sizes of the tables.

    This equals one-hot inputs multiplied by a weight (Guo & Berkhahn, 2016), without the zeros. It must be the first
    layer of its network. A preprocessing with `gradflow.data.Embedding` rules produces such inputs, and
    ``gf.MLP([...], preprocessing=preprocessing)`` begins with this layer; in a `Sequential`, it is
    ``gf.EmbedColumns(preprocessing.n_out, preprocessing.tables)``. Without preprocessing, inputs that are not category
    numbers of the tables are refused.

    The gradient of a table is dL/dtable[k] = Σ dL/dy_i over the rows i of category k, in the order of the rows, summed
    in float64 for 1024 rows at a time: its bits do not depend on the device or the number of threads. Column numbers
    have no gradient: dL/dx is 0 there.

    Args:
        n_in: the number of inputs.
        tables: the shape of each table: pairs of the number of categories, at most 2**24, and the size of a vector.
        initializer: initializer of the tables, as in `Dense`. None draws from N(0, 1 / size), as fairseq does (Ott et
            al., 2019): a vector then has the expected squared length 1, as a one-hot input or a standardized number.
            Vector 0, which `gradflow.data.Embedding` uses for unseen and rare categories, begins at 0 in either case.

    Attributes:
        n_out: the number of outputs.

    Parameters: ``table_0``, ``table_1``, ..., each of the shape in ``tables``. Penalties and weight decay apply to them
    as to other weights, in each step to all rows: a vector that is rarely trained stays near 0.

    Raises:
        DataError: if there are more tables than inputs, or sizes are out of range.
    """

    recorded = True
    backward_reads = ()
    set_by_forward = ("_numbers",)
    first_only = True
    preferred_initializer = None

    def __init__(self, n_in: int, tables: Sequence[Sequence[int]], *, initializer: Initializer | None = None) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.tables = _checked_tables(tables, self.n_in)
        self.initializer = None if initializer is None else checked_initializer(initializer)
        self.n_out = self.n_in - len(self.tables) + sum(size for _, size in self.tables)
        self._numbers: Array | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "tables": [list(shape) for shape in self.tables]}

    def output_width(self, n_in: int) -> int:
        return self.n_out

    def parameters(self) -> dict[str, ParameterSpec]:
        return {
            f"table_{index}": ParameterSpec(shape, decayed=True, initializer=self._initial)
            for index, shape in enumerate(self.tables)
        }

    def _initial(self, shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
        if self.initializer is None:
            table = random.normal(math.sqrt(1 / shape[1]), shape)
        else:
            table = initial_weight(self.initializer, shape, random).copy()
        table[0] = 0
        return table

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self.attached is not None and callable(self.initializer):
            state["initializer"] = None  # no longer needed, and pickle supports only some functions
        return state

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._numbers = ops.backend.empty((len(self.tables), len(x)), np.int32)
        self._embed(ops, x, y, self._numbers)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._embed(ops, x, y, [None] * len(self.tables))

    def _embed(self, ops: Executor, x: Array, y: Array, numbers: Sequence[Array | None]) -> None:
        passed = self.n_in - len(self.tables)
        ops(leading_columns, x, y, count=passed)
        for index, first in enumerate(self._firsts()):
            table = getattr(self, f"table_{index}")
            ops(embed_column, x, table, numbers[index], y, column=passed + index, first=first)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._numbers is not None
        for index, first in enumerate(self._firsts()):
            d_table = getattr(self, f"d_table_{index}")
            ops(clear, d_table)
            for start in range(0, len(d_y), _ROWS_AT_A_TIME):
                rows = slice(start, start + _ROWS_AT_A_TIME)
                ops(embed_column_gradient, self._numbers[index][rows], d_y[rows], d_table, first=first)
        if d_x is not None:
            ops(leading_columns, d_y, d_x, count=self.n_in - len(self.tables))

    def _firsts(self) -> list[int]:
        """Return the first column of y that belongs to each table."""
        passed = self.n_in - len(self.tables)
        return [passed + sum(size for _, size in self.tables[:index]) for index in range(len(self.tables))]


def _checked_tables(tables: Any, n_in: int) -> tuple[tuple[int, int], ...]:
    expected = "a list of pairs (categories, size), such as [(1000, 16)]"
    found = []
    for index, shape in enumerate(sequence("tables", tables, expected)):
        pair = sequence(f"tables[{index}]", shape, "a pair (categories, size)")
        if len(pair) != 2:
            raise DataError(f"tables must be {expected}, but tables[{index}] has {len(pair)} values")
        categories = integer(f"the categories of tables[{index}]", pair[0], least=1, most=MOST_CATEGORIES)
        found.append((categories, positive_integer(f"the size of tables[{index}]", pair[1])))
    if not 0 < len(found) <= n_in:
        raise DataError(
            f"n_in = {n_in} inputs need from 1 to {n_in} tables, one for each column of category numbers, "
            f"got {len(found)}"
        )
    return tuple(found)
